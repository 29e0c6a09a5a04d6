package upstream_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/upstream"
	"mirror/internal/upstream/signin"
	"mirror/internal/upstream/signin/signintest"
	"mirror/internal/upstream/upstreamtest"
)

// cloud is what the clouds for tests have in common.
type cloud interface {
	Count(kind string) int
	Requests() []signintest.Request
	Secrets() []string
	Refuse(kind string, status int)
	SetDelay(time.Duration)
	Expire()
}

// story is one cloud with its registry, and a mirror that is signed in to it.
type story struct {
	client
	origin *upstreamtest.Registry
	cloud  cloud
	kind   string // of the question that gives a credential
	log    *lockedBuffer
}

// lockedBuffer is a log that several goroutines write to.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// ecrHost is the name of the registry in the stories of Amazon; its address is that of a test registry.
const ecrHost = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

func amazon(t *testing.T) *story {
	aws, origin := signintest.NewAWS(t), upstreamtest.New(t)
	origin.RequireBasic("", "")
	origin.SetPasswords(aws.Accepts)
	origin.SetRefusal(http.StatusForbidden)
	t.Setenv("AWS_ACCESS_KEY_ID", signintest.KeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", signintest.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	c := upstream.Config{Registry: ecrHost, Credentials: upstream.Credentials{ECR: &signin.ECR{Endpoint: aws.URL}}}
	return tell(t, &story{origin: origin, cloud: aws, kind: "ecr"}, c)
}

func googled(t *testing.T) *story {
	google, origin := signintest.NewGoogle(t), upstreamtest.New(t)
	origin.RequireToken("", "")
	origin.SetPasswords(google.Accepts)
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, google.KeyFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := upstream.Config{Registry: "europe-docker.pkg.dev", Credentials: upstream.Credentials{
		Google: &signin.Google{KeyFile: file, TokenEndpoint: google.URL + "/token"},
	}}
	return tell(t, &story{origin: origin, cloud: google, kind: "token"}, c)
}

func azured(t *testing.T) *story {
	azure, origin := signintest.NewAzure(t, "https://containerregistry.azure.net"), upstreamtest.New(t)
	origin.RequireToken("", "")
	origin.SetPasswords(azure.Accepts)
	origin.SetChallenge(`Bearer realm="` + origin.URL + `/oauth2/token",service="example.azurecr.io",scope="repository:app:pull"`)
	origin.Handle("/oauth2/exchange", azure)
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
	t.Setenv("AZURE_CLIENT_ID", "")
	c := upstream.Config{Registry: "example.azurecr.io", Credentials: upstream.Credentials{Azure: &signin.Azure{MetadataEndpoint: azure.URL}}}
	return tell(t, &story{origin: origin, cloud: azure, kind: "exchange"}, c)
}

// tell connects a mirror. At the end nothing that it has logged holds a secret.
func tell(t *testing.T, s *story, c upstream.Config) *story {
	t.Helper()
	s.origin.AddImage("app", "1", 1000)
	c.Endpoints, s.log = []string{s.origin.URL}, &lockedBuffer{}
	s.metrics = prometheus.NewRegistry()
	set, err := upstream.New([]upstream.Config{c}, "1.2.3", "node-1", slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})), s.metrics)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	s.set, s.Registry = set, set.All()[0]
	t.Cleanup(func() { s.keepsSecrets(t, s.log.String()) })
	return s
}

// keepsSecrets looks for every secret in a text.
func (s *story) keepsSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range s.cloud.Secrets() {
		if strings.Contains(text, secret) {
			t.Errorf("the secret %s is in: %s", secret, text)
		}
	}
}

// pull pulls once, and wants success or this error, without a secret in it.
func (s *story) pull(t *testing.T, want error) {
	t.Helper()
	_, err := s.HeadManifest(t.Context(), "app", tag("1"))
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if err != nil {
		s.keepsSecrets(t, err.Error())
	}
}

var clouds = map[string]func(*testing.T) *story{"ecr": amazon, "google": googled, "azure": azured}

func TestCloudsSignIn(t *testing.T) {
	for name, begin := range clouds {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			if s.Anonymous() {
				t.Error("anonymous with credentials: private content would be shown to everybody")
			}
			for range 5 {
				s.pull(t, nil)
			}
			if n := s.cloud.Count(s.kind); n != 1 {
				t.Errorf("%d questions for 5 pulls, want 1", n)
			}
		})
	}
}

func TestManyOnExpiredCredential(t *testing.T) {
	for name, begin := range clouds {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.pull(t, nil)
			upstream.Age(s.Registry, time.Hour)
			s.cloud.Expire()
			s.origin.ExpireTokens()
			s.cloud.SetDelay(50 * time.Millisecond)
			before, tokens := s.cloud.Count(s.kind), s.origin.Count(upstreamtest.Token, "")
			var group sync.WaitGroup
			for range 50 {
				group.Go(func() { s.pull(t, nil) })
			}
			group.Wait()
			if n := s.cloud.Count(s.kind) - before; n != 1 {
				t.Errorf("%d questions by 50 requests, want 1", n)
			}
			// One exchange, which is repeated with the new credential: in a form where the old one was a refresh token,
			// and that is tried as a password too.
			if n := s.origin.Count(upstreamtest.Token, "") - tokens; n > 3 {
				t.Errorf("%d requests for tokens by 50 requests", n)
			}
		})
	}
}

// TestCloudRefuses: the cloud says no, or is down, to somebody who was never signed in.
func TestCloudRefuses(t *testing.T) {
	for name, begin := range clouds {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.cloud.Refuse(s.kind, http.StatusForbidden)
			for range 5 {
				s.pull(t, upstream.ErrUnauthorized)
			}
			if n := s.cloud.Count(s.kind); n != 1 {
				t.Errorf("%d questions by 5 requests within a moment, want 1", n)
			}
			s.cloud.Refuse(s.kind, http.StatusServiceUnavailable)
			_ = s.set.Reload([]upstream.Config{{Registry: s.Name()}})
			s.pull(t, upstream.ErrUnavailable)
		})
	}
}

// TestCloudIsNotFloodedByRefusals: a credential that the registry does not like, although it is new.
func TestCloudIsNotFloodedByRefusals(t *testing.T) {
	for name, begin := range clouds {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.origin.SetPasswords(func(string, string) bool { return false })
			for range 5 {
				_, err := s.HeadManifest(t.Context(), "app", tag("1"))
				if !errors.Is(err, upstream.ErrUnauthorized) && !errors.Is(err, upstream.ErrDenied) {
					t.Errorf("got %v, want a refusal", err)
				}
				s.keepsSecrets(t, err.Error())
			}
			if n := s.cloud.Count(s.kind); n != 1 {
				t.Errorf("%d questions by 5 refused requests, want 1", n)
			}
		})
	}
}

// TestCloudSecretsStayHome follows a blob to storage, with every request on the wire looked at.
func TestCloudSecretsStayHome(t *testing.T) {
	for name, begin := range clouds {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.origin.UseCDN()
			d := s.origin.AddBlob("app", []byte("some bytes"))
			if _, err := s.HeadBlob(t.Context(), "app", d); err != nil {
				t.Fatal(err)
			}
			if s.origin.Count(upstreamtest.CDN, "") == 0 {
				t.Error("storage was not asked")
			}
			for _, request := range s.origin.Requests() {
				if request.Kind == upstreamtest.CDN && (request.Header.Get("Authorization") != "" || request.Header.Get("Cookie") != "") {
					t.Errorf("storage was sent Authorization %q", request.Header.Get("Authorization"))
				}
				if request.Kind == upstreamtest.Manifest || request.Kind == upstreamtest.Blob {
					s.keepsSecrets(t, request.Path+request.Query)
				}
			}
			for _, request := range s.cloud.Requests() {
				if strings.HasPrefix(request.Header.Get("Authorization"), "Basic ") || request.Header.Get("Via") != "" {
					t.Errorf("the cloud was sent what is the registry's: %v", request.Header)
				}
			}
		})
	}
}

// TestCloudAndForeignRealm: who can make a registry send a header does not get the cloud's credential.
func TestCloudAndForeignRealm(t *testing.T) {
	for name, begin := range clouds {
		t.Run(name, func(t *testing.T) {
			s, thief := begin(t), upstreamtest.New(t)
			s.origin.RequireToken("", "")
			s.origin.SetChallenge(`Bearer realm="` + strings.Replace(thief.URL, "127.0.0.1", "localhost", 1) + `/token",service="x"`)
			s.pull(t, upstream.ErrDenied)
			if n := len(thief.Requests()); n != 0 {
				t.Errorf("%d requests reached a foreign token service", n)
			}
		})
	}
}

// TestDeniedRepository: without permission, ECR answers 403 as it does to an expired password. One pull may cost a new
// password now and then, not each.
func TestDeniedRepository(t *testing.T) {
	s := amazon(t)
	s.pull(t, nil)
	s.origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: http.StatusForbidden})
	for range 5 {
		s.pull(t, upstream.ErrDenied)
	}
	upstream.Age(s.Registry, time.Hour)
	for range 5 {
		s.pull(t, upstream.ErrDenied)
	}
	if n := s.cloud.Count("ecr"); n != 2 {
		t.Errorf("%d passwords, want 2", n)
	}
}

func TestAdviceForAnonymousClouds(t *testing.T) {
	f := func(registry, want string) {
		t.Helper()
		origin := upstreamtest.New(t)
		origin.RequireBasic("somebody", "x")
		set, err := upstream.New([]upstream.Config{{Registry: registry, Endpoints: []string{origin.URL}}}, "v", "id", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		_, err = set.All()[0].HeadManifest(t.Context(), "app", tag("1"))
		if !errors.Is(err, upstream.ErrUnknownRepository) || !strings.Contains(err.Error(), want) || want == "" && strings.Contains(err.Error(), "credentials: {") {
			t.Errorf("%s: got %v, want advice %q", registry, err, want)
		}
	}
	f(ecrHost, `add "credentials: {ecr: {}}" to its upstream`)
	f("europe-docker.pkg.dev", `add "credentials: {google: {}}" to its upstream`)
	f("example.azurecr.io", `add "credentials: {azure: {}}" to its upstream`)
	f("reg.example", "")
}

func TestTrySignIn(t *testing.T) {
	aws := signintest.NewAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", signintest.KeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", signintest.SecretKey)
	c := upstream.Config{Registry: ecrHost, Credentials: upstream.Credentials{ECR: &signin.ECR{Endpoint: aws.URL}}}
	if err := c.TrySignIn(t.Context()); err != nil {
		t.Error(err)
	}
	aws.Refuse("ecr", http.StatusBadRequest)
	if err := c.TrySignIn(t.Context()); err == nil || !strings.Contains(err.Error(), "allow ecr:GetAuthorizationToken") {
		t.Errorf("got %v, want what to allow", err)
	}
	c.Credentials = upstream.Credentials{Helper: "absent"}
	if err := c.TrySignIn(t.Context()); err != nil {
		t.Errorf("a helper was asked: %v", err)
	}
}
