package upstream_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// TestUserNames: the names of robots and deploy tokens, in both ways of showing them.
func TestUserNames(t *testing.T) {
	for registry, username := range map[string]string{
		"Harbor": "robot$project+puller", "Quay": "org+robot", "GitLab": "gitlab+deploy-token-7", "Google": "_json_key", "Docker Hub": "someone",
	} {
		t.Run(registry, func(t *testing.T) {
			for _, require := range []func(*upstreamtest.Registry, string, string){(*upstreamtest.Registry).RequireToken, (*upstreamtest.Registry).RequireBasic} {
				origin := upstreamtest.New(t)
				origin.AddImage("app", "1")
				require(origin, username, "pass:with:colons")
				if _, err := connect(t, origin, withPassword(t, username, "pass:with:colons")).Manifest(t.Context(), "app", tag("1")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestKeyFileAsPassword: Google takes the JSON key of a service account as the password of _json_key, all lines of it.
func TestKeyFileAsPassword(t *testing.T) {
	key := "{\n  \"type\": \"service_account\",\n  \"private_key\": \"x\"\n}"
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("_json_key", key)
	if _, err := connect(t, origin, withPassword(t, "_json_key", key)).Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Error(err)
	}
}

// TestDockerHub: its name in Docker's file is the address of an interface that is long gone.
func TestDockerHub(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("library/debian", "12")
	origin.RequireToken("someone", "s3cret")
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"https://index.docker.io/v1/":{"identitytoken":"s3cret"},"ghcr.io":{"auth":"eDp5"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := upstream.New([]upstream.Config{{
		Registry: "docker.io", Endpoints: []string{origin.URL}, Credentials: upstream.Credentials{DockerConfig: file},
	}}, "v", "id", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if _, err := set.All()[0].Manifest(t.Context(), "library/debian", tag("12")); err != nil {
		t.Error(err)
	}
}

// TestServerRepeatsSecrets: what a careless server says about a request does not carry its secrets into errors.
func TestServerRepeatsSecrets(t *testing.T) {
	f := func(name string, kind upstreamtest.Kind, require func(*upstreamtest.Registry, string, string)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			const secret = `s3cret"<\é`
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1")
			require(origin, "robot", secret)
			origin.Hook(func(req *http.Request) *upstreamtest.Fault {
				sent := req.Header.Get("Authorization")
				if upstreamtest.KindOf(req) != kind || sent == "" {
					return nil
				}
				text, err := json.Marshal(map[string]any{"errors": []map[string]string{{"code": "DENIED " + secret, "message": "no " + sent + " " + secret}}})
				if err != nil {
					t.Error(err)
				}
				return &upstreamtest.Fault{Status: http.StatusForbidden, Body: string(text)}
			})
			_, err := connect(t, origin, withPassword(t, "robot", secret)).Manifest(t.Context(), "app", tag("1"))
			if !errors.Is(err, upstream.ErrDenied) || !strings.Contains(err.Error(), "DENIED (secret): no ") {
				t.Fatalf("got %v, want what the server said", err)
			}
			var sent string
			for _, request := range origin.Requests() {
				if request.Kind == kind && request.Header.Get("Authorization") != "" {
					_, sent, _ = strings.Cut(request.Header.Get("Authorization"), " ")
				}
			}
			if strings.Contains(err.Error(), "s3cret") || sent == "" || strings.Contains(err.Error(), sent) {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	}
	f("token service", upstreamtest.Token, (*upstreamtest.Registry).RequireToken)
	f("with a token", upstreamtest.Manifest, (*upstreamtest.Registry).RequireToken)
	f("with a password", upstreamtest.Manifest, (*upstreamtest.Registry).RequireBasic)
}

// TestChangedPasswordCountsAtOnce: no request fails when the file is replaced before the registry changes its mind.
func TestChangedPasswordCountsAtOnce(t *testing.T) {
	for name, require := range map[string]func(*upstreamtest.Registry, string, string){
		"token": (*upstreamtest.Registry).RequireToken, "basic": (*upstreamtest.Registry).RequireBasic,
	} {
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1")
			require(origin, "robot", "old")
			file := filepath.Join(t.TempDir(), "password")
			write := func(password string) {
				if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("old")
			r := connect(t, origin, func(c *upstream.Config) {
				c.Credentials = upstream.Credentials{Username: "robot", PasswordFile: file}
			})
			for _, password := range []string{"old", "new", "newer"} {
				write(password)
				require(origin, "robot", password)
				origin.ExpireTokens()
				if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
					t.Errorf("%s: %v", password, err)
				}
			}
		})
	}
}

// TestRefreshTokenWithoutForms: token services that do not take a form get the refresh token the way of a password, at
// the first try from then on.
func TestRefreshTokenWithoutForms(t *testing.T) {
	for _, status := range []int{400, 401, 404, 405} {
		origin := upstreamtest.New(t)
		origin.AddImage("app", "1")
		origin.AddImage("other", "1")
		origin.RequireToken("", "")
		origin.SetPasswords(func(username, password string) bool { return username == "<token>" && password == "s3cret" })
		origin.RefuseForms(status)
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(`{"auths":{"reg.example":{"identitytoken":"s3cret"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		r := connect(t, origin, func(c *upstream.Config) { c.Credentials.DockerConfig = file })
		for _, name := range []string{"app", "other"} {
			if _, err := r.Manifest(t.Context(), name, tag("1")); err != nil {
				t.Errorf("%d: %v", status, err)
			}
		}
		if forms, all := origin.Count(upstreamtest.Token, "POST"), origin.Count(upstreamtest.Token, ""); forms != 1 || all != 3 {
			t.Errorf("%d: %d forms in %d requests, want 1 in 3", status, forms, all)
		}
	}
}

// TestTokenHosts: GitLab's registry and token service have hosts of their own. The token service is asked and shown the
// credentials when it is listed.
func TestTokenHosts(t *testing.T) {
	f := func(name string, listed func(host string) []string, want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			gitlab, origin := upstreamtest.New(t), upstreamtest.New(t)
			gitlab.RequireToken("deploy", "s3cret")
			origin.RequireToken("deploy", "s3cret")
			origin.AddImage("app", "1")
			host := strings.Replace(gitlab.Host, "127.0.0.1", "localhost", 1)
			origin.SetChallenge(`Bearer realm="http://` + host + `/token/auth",service="container_registry"`)
			origin.SetPasswords(func(string, string) bool { return false })
			withSecret := withPassword(t, "deploy", "s3cret")
			r := connect(t, origin, func(c *upstream.Config) {
				withSecret(c)
				c.TokenHosts = listed(host)
			})
			_, err := r.Manifest(t.Context(), "app", tag("1"))
			asked := gitlab.Count(upstreamtest.Token, "GET")
			if want != nil && (!errors.Is(err, want) || asked != 0 || !strings.Contains(err.Error(), `add "`+host+`" to token_hosts`)) {
				t.Errorf("got %v after %d requests, want %v and what to do", err, asked, want)
			}
			if want == nil && asked != 1 {
				t.Errorf("the token service was asked %d times: %v", asked, err)
			}
		})
	}
	f("listed with its port", func(host string) []string { return []string{host} }, nil)
	f("listed for any port", func(string) []string { return []string{"localhost"} }, nil)
	f("not listed", func(string) []string { return nil }, upstream.ErrDenied)
	f("another port", func(string) []string { return []string{"localhost:1"} }, upstream.ErrDenied)
	f("another host", func(string) []string { return []string{"gitlab.example"} }, upstream.ErrDenied)
}

// artifactory puts a registry below a path, as Artifactory does with each repository.
func artifactory(t *testing.T, origin *upstreamtest.Registry, prefix string) string {
	t.Helper()
	target, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.StripPrefix(prefix, httputil.NewSingleHostReverseProxy(target)))
	t.Cleanup(front.Close)
	return front.URL + prefix
}

// TestPathPrefix: an endpoint below a path, with its token service and redirects there too.
func TestPathPrefix(t *testing.T) {
	const prefix = "/artifactory/api/docker/team"
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	blob := []byte("some bytes")
	d := origin.AddBlob("app", blob)
	endpoint := artifactory(t, origin, prefix)
	origin.RequireToken("robot", "s3cret")
	origin.SetChallenge(`Bearer realm="` + endpoint + `/token",service="art"`)
	origin.Hook(func(req *http.Request) *upstreamtest.Fault {
		if upstreamtest.KindOf(req) == upstreamtest.Blob && req.Header.Get("Authorization") != "" && req.URL.RawQuery == "" {
			return &upstreamtest.Fault{Redirect: prefix + req.URL.Path + "?node=2"}
		}
		return nil
	})
	withSecret := withPassword(t, "robot", "s3cret")
	r := connect(t, origin, func(c *upstream.Config) {
		withSecret(c)
		c.Endpoints = []string{endpoint + "/"}
	})
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Error(err)
	}
	body, err := r.Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || string(got) != string(blob) {
		t.Errorf("got %q, %v", got, err)
	}
	if tags, err := r.Tags(t.Context(), "app", 0, ""); err != nil || len(tags.Tags) != 1 {
		t.Errorf("tags: %+v, %v", tags, err)
	}
}

// TestPreemptive: credentials are shown with the first request, to the endpoint and to nobody else.
func TestPreemptive(t *testing.T) {
	f := func(name string, preemptive bool, require func(*upstreamtest.Registry, string, string), wantRefused int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			d := origin.AddBlob("app", []byte("some bytes"))
			origin.UseCDN()
			require(origin, "robot", "s3cret")
			withSecret := withPassword(t, "robot", "s3cret")
			r := connect(t, origin, func(c *upstream.Config) {
				withSecret(c)
				c.Credentials.Preemptive = preemptive
			})
			if _, err := r.HeadBlob(t.Context(), "app", d); err != nil {
				t.Error(err)
			}
			if n := origin.Count(upstreamtest.Blob, "") - 1; n != wantRefused {
				t.Errorf("%d requests were refused, want %d", n, wantRefused)
			}
			for _, request := range origin.Requests() {
				if request.Kind == upstreamtest.CDN && request.Header.Get("Authorization") != "" {
					t.Error("storage was shown the credentials")
				}
			}
		})
	}
	f("basic", true, (*upstreamtest.Registry).RequireBasic, 0)
	f("basic when asked", false, (*upstreamtest.Registry).RequireBasic, 1)
	f("a registry that wants a token all the same", true, (*upstreamtest.Registry).RequireToken, 1)
}

// TestPreemptiveRefreshToken: what only a token service takes waits until one is named.
func TestPreemptiveRefreshToken(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("robot", "s3cret")
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"reg.example":{"identitytoken":"s3cret"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := connect(t, origin, func(c *upstream.Config) {
		c.Credentials = upstream.Credentials{DockerConfig: file, Preemptive: true}
	})
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Error(err)
	}
}
