package upstream_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// withPassword configures credentials by username and password file.
func withPassword(t *testing.T, username, password string) func(*upstream.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *upstream.Config) { c.Credentials = upstream.Credentials{Username: username, PasswordFile: file} }
}

func TestAnonymousToken(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("library/debian", "12")
	origin.AddImage("library/alpine", "3")
	origin.RequireToken("", "")
	r := connect(t, origin, nil)
	if !r.Anonymous() {
		t.Error("not anonymous without credentials")
	}
	for range 3 {
		for name, version := range map[string]string{"library/debian": "12", "library/alpine": "3"} {
			if _, err := r.HeadManifest(t.Context(), name, tag(version)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := origin.Count(upstreamtest.Token, ""); n != 2 {
		t.Errorf("%d tokens fetched, want one for each repository", n)
	}
	// Each repository costs one refused request, after which its token is sent along.
	if n := origin.Count(upstreamtest.Manifest, ""); n != 2*(3+1) {
		t.Errorf("%d manifest requests, want 8", n)
	}
	for _, request := range origin.Requests() {
		if request.Kind == upstreamtest.Token && !strings.Contains(request.Query, "scope=repository%3Alibrary%2F") {
			t.Errorf("token was asked for with %s", request.Query)
		}
		if request.Kind == upstreamtest.Token && request.Header.Get("Authorization") != "" {
			t.Error("an anonymous token request carried credentials")
		}
	}
}

func TestManyOnExpiredToken(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("", "")
	r := connect(t, origin, nil)
	if _, err := r.HeadManifest(t.Context(), "app", tag("1")); err != nil {
		t.Fatal(err)
	}
	origin.ExpireTokens()
	origin.Reset()
	origin.Fail(upstreamtest.Token, -1, upstreamtest.Fault{Delay: 100 * time.Millisecond})
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := r.HeadManifest(t.Context(), "app", tag("1")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := origin.Count(upstreamtest.Token, ""); n != 1 {
		t.Errorf("%d tokens fetched by 50 requests, want 1", n)
	}
}

func TestCredentials(t *testing.T) {
	f := func(name, password string, prepare func(*upstreamtest.Registry), want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1")
			prepare(origin)
			r := connect(t, origin, withPassword(t, "robot", password))
			if r.Anonymous() {
				t.Error("anonymous with credentials")
			}
			for range 2 {
				_, err := r.Manifest(t.Context(), "app", tag("1"))
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if err != nil && strings.Contains(err.Error(), password) {
					t.Errorf("the password is in the error: %v", err)
				}
			}
		})
	}
	f("token", "s3cret", func(o *upstreamtest.Registry) { o.RequireToken("robot", "s3cret") }, nil)
	f("token refused", "wrong-one", func(o *upstreamtest.Registry) { o.RequireToken("robot", "s3cret") }, upstream.ErrUnauthorized)
	f("basic", "s3cret", func(o *upstreamtest.Registry) { o.RequireBasic("robot", "s3cret") }, nil)
	f("basic refused", "wrong-one", func(o *upstreamtest.Registry) { o.RequireBasic("robot", "s3cret") }, upstream.ErrUnauthorized)
	f("not needed", "s3cret", func(*upstreamtest.Registry) {}, nil)
}

func TestPrivateForAnonymous(t *testing.T) {
	f := func(name string, prepare func(*upstreamtest.Registry)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1")
			prepare(origin)
			_, err := connect(t, origin, nil).Manifest(t.Context(), "app", tag("1"))
			if !errors.Is(err, upstream.ErrUnknownRepository) || !errors.Is(err, upstream.ErrNotFound) {
				t.Errorf("got %v, want ErrUnknownRepository", err)
			}
		})
	}
	f("token is not enough", func(o *upstreamtest.Registry) { o.RequireToken("", ""); o.SetPrivate("app") })
	f("token service wants a password", func(o *upstreamtest.Registry) { o.RequireToken("somebody", "x") })
	f("token service refuses", func(o *upstreamtest.Registry) {
		o.RequireToken("", "")
		o.Fail(upstreamtest.Token, -1, upstreamtest.Fault{Status: 403})
	})
	f("basic", func(o *upstreamtest.Registry) { o.RequireBasic("somebody", "x") })
}

func TestChallengeOnlyOnPing(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("", "")
	origin.SetChallenge("none")
	r := connect(t, origin, nil)
	for range 2 {
		if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
			t.Fatal(err)
		}
	}
	if n := origin.Count(upstreamtest.Ping, ""); n != 1 {
		t.Errorf("%d pings, want 1", n)
	}
}

func TestStaleTokenChangesChallenge(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("", "")
	r := connect(t, origin, nil)
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Fatal(err)
	}
	origin.ExpireTokens()
	origin.Fail(upstreamtest.Manifest, 1, upstreamtest.Fault{Status: 401, Header: map[string][]string{"Www-Authenticate": {`Basic realm="harbor"`}}})
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Errorf("got %v, want the header to be dropped and a new token fetched", err)
	}
}

func TestChallengedScope(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("", "")
	r := connect(t, origin, nil)
	origin.Fail(upstreamtest.Manifest, 2, upstreamtest.Fault{Status: 401, Header: map[string][]string{"Www-Authenticate": {
		`Bearer realm="` + origin.URL + `/token",service="x",scope="repository:app:pull,list",error="insufficient_scope"`}}})
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err == nil {
		t.Error("two refusals of the challenged scope were not enough")
	}
	requests := origin.Requests()
	if requests[1].Kind != upstreamtest.Token || !strings.Contains(requests[1].Query, "scope=repository%3Aapp%3Apull%2Clist") {
		t.Errorf("second request is %+v, want a token for the challenged scope", requests[1])
	}
	if n := origin.Count(upstreamtest.Token, ""); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestForeignRealm(t *testing.T) {
	thief := upstreamtest.New(t)
	port := thief.Host[strings.LastIndex(thief.Host, ":"):]
	for _, realm := range []string{
		"http://localhost" + port + "/token", "http://attacker.example/token", "http://robot:x@127.0.0.1" + port + "/token", "token", "",
	} {
		t.Run(realm, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1")
			origin.RequireToken("robot", "s3cret")
			origin.SetChallenge(`Bearer realm="` + realm + `",service="x"`)
			r := connect(t, origin, withPassword(t, "robot", "s3cret"))
			if _, err := r.Manifest(t.Context(), "app", tag("1")); !errors.Is(err, upstream.ErrDenied) {
				t.Errorf("got %v, want ErrDenied", err)
			}
		})
	}
	if n := len(thief.Requests()); n != 0 {
		t.Errorf("%d requests reached a place outside the registry's domain", n)
	}
}

// TestRealmOnAnotherPort: a token service beside the registry, on the same host, is fine.
func TestRealmOnAnotherPort(t *testing.T) {
	origin, service := upstreamtest.New(t), upstreamtest.New(t)
	service.RequireToken("robot", "s3cret")
	origin.RequireToken("robot", "s3cret")
	origin.SetChallenge(`Bearer realm="` + service.URL + `/token",service="x"`)
	r := connect(t, origin, withPassword(t, "robot", "s3cret"))
	_, _ = r.Manifest(t.Context(), "app", tag("1"))
	if n := service.Count(upstreamtest.Token, "GET"); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestTokenServiceDown(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("", "")
	origin.Fail(upstreamtest.Token, -1, upstreamtest.Fault{Status: 503})
	r := connect(t, origin, nil)
	for range 2 {
		if _, err := r.Manifest(t.Context(), "app", tag("1")); !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	if r.Available() {
		t.Error("still available, though nothing can be had without a token")
	}
}

func TestUselessTokens(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON": "hello", "no token": `{"expires_in":300}`, "line break": `{"token":"a\nb"}`, "wrong type": `{"token":7}`,
		"too long": `{"token":"` + strings.Repeat("x", 40_000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.RequireToken("", "")
			origin.Fail(upstreamtest.Token, -1, upstreamtest.Fault{Status: 200, Body: body})
			_, err := connect(t, origin, nil).Manifest(t.Context(), "app", tag("1"))
			if !errors.Is(err, upstream.ErrWrongContent) {
				t.Errorf("got %v, want ErrWrongContent", err)
			}
		})
	}
}

func TestReloadReadsPasswordAgain(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireBasic("robot", "new")
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
	if _, err := r.Manifest(t.Context(), "app", tag("1")); !errors.Is(err, upstream.ErrUnauthorized) {
		t.Fatalf("got %v, want ErrUnauthorized", err)
	}
	write("new")
	r.set.Reload([]upstream.Config{{Registry: r.Name()}})
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Errorf("after the reload: %v", err)
	}
}

func TestDockerConfig(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	f := func(name, text string, prepare func(), want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			prepare()
			r := connect(t, origin, func(c *upstream.Config) { c.Credentials.DockerConfig = file })
			_, err := r.Manifest(t.Context(), "app", tag("1"))
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
	basic := func() { origin.RequireBasic("robot", "s3cret") }
	bearer := func() { origin.RequireToken("robot", "s3cret") }
	f("auth", `{"auths":{"reg.example":{"auth":"cm9ib3Q6czNjcmV0"}}}`, basic, nil)
	f("auth under a URL", `{"auths":{"https://reg.example/v1/":{"auth":"cm9ib3Q6czNjcmV0"}}}`, basic, nil)
	f("plain", `{"auths":{"reg.example":{"username":"robot","password":"s3cret"}}}`, bearer, nil)
	f("refresh token", `{"auths":{"reg.example":{"identitytoken":"s3cret"}}}`, bearer, nil)
	f("refresh token where a password is due", `{"auths":{"reg.example":{"identitytoken":"s3cret"}}}`, basic, upstream.ErrUnauthorized)
	f("no entry", `{"auths":{"other.example":{"auth":"cm9ib3Q6czNjcmV0"}}}`, basic, upstream.ErrUnauthorized)
	f("no JSON", `s3cret`, basic, upstream.ErrUnauthorized)
	f("no base64", `{"auths":{"reg.example":{"auth":"s3cret!"}}}`, basic, upstream.ErrUnauthorized)
}

func TestHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	script := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script("good", `read server; echo called >> "`+dir+`/calls"; [ "$1 $server" = "get reg.example" ] && echo '{"ServerURL":"x","Username":"robot","Secret":"s3cret"}'`)
	script("refresh", `cat >/dev/null; echo '{"Username":"<token>","Secret":"s3cret"}'`)
	script("bad", `echo s3cret; exit 1`)
	script("empty", `cat >/dev/null; echo '{}'`)
	f := func(helper string, want error, change func(*upstream.Config)) {
		t.Helper()
		t.Run(helper, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1")
			origin.RequireToken("robot", "s3cret")
			origin.SetTokenLife(time.Minute)
			r := connect(t, origin, change)
			for range 3 {
				origin.ExpireTokens()
				_, err := r.Manifest(t.Context(), "app", tag("1"))
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if err != nil && strings.Contains(err.Error(), "s3cret") {
					t.Errorf("the secret is in the error: %v", err)
				}
			}
		})
	}
	named := func(helper string) func(*upstream.Config) {
		return func(c *upstream.Config) { c.Credentials.Helper = helper }
	}
	inDockerConfig := func(text string) func(*upstream.Config) {
		file := filepath.Join(dir, "config.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return func(c *upstream.Config) { c.Credentials.DockerConfig = file }
	}
	f("good", nil, named("good"))
	f("refresh", nil, named("refresh"))
	f("bad", upstream.ErrUnauthorized, named("bad"))
	f("empty", upstream.ErrUnauthorized, named("empty"))
	f("missing", upstream.ErrUnauthorized, named("missing"))
	f("for one registry", nil, inDockerConfig(`{"credHelpers":{"reg.example":"refresh","other.example":"bad"}}`))
	f("for all registries", nil, inDockerConfig(`{"credsStore":"refresh","auths":{"reg.example":{}}}`))
	f("with a path", upstream.ErrUnauthorized, inDockerConfig(`{"credsStore":"../refresh"}`))
	if calls, err := os.ReadFile(filepath.Join(dir, "calls")); err != nil || strings.Count(string(calls), "called") != 1 {
		t.Errorf("the helper ran %d times for three tokens, want once: %v", strings.Count(string(calls), "called"), err)
	}
}
