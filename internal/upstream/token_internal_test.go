package upstream

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

// TestTokenIsRefreshedAhead: a token near its end is used on while the next one is fetched, once.
func TestTokenIsRefreshedAhead(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("", "")
	r := build(t, Config{Endpoints: []string{origin.URL}})
	pull := func() {
		t.Helper()
		if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	pull()
	key := grow(r)
	arrived, release := make(chan struct{}), make(chan struct{})
	origin.Hook(func(req *http.Request) *upstreamtest.Fault {
		if upstreamtest.KindOf(req) == upstreamtest.Token {
			close(arrived)
			<-release
		}
		return nil
	})
	for range 10 {
		pull() // would hang if it waited for the token service
	}
	<-arrived
	origin.Hook(nil)
	close(release)
	for _, ok, old := r.tokens.lookup(key); !ok || old; _, ok, old = r.tokens.lookup(key) {
		time.Sleep(time.Millisecond)
	}
	if n := origin.Count(upstreamtest.Token, ""); n != 2 {
		t.Errorf("%d tokens, want the first and its successor", n)
	}
}

// grow makes the only token of a registry so old that it is to be refreshed.
func grow(r *Registry) tokenKey {
	r.tokens.mu.Lock()
	defer r.tokens.mu.Unlock()
	for key, kept := range r.tokens.kept {
		kept.ahead = time.Time{}
		r.tokens.kept[key] = kept
		return key
	}
	return tokenKey{}
}

// TestListedTokenHostMayBePrivate: a token service that the operator names is asked wherever it is, although the registry
// is public; one that only the registry names is not.
func TestListedTokenHostMayBePrivate(t *testing.T) {
	f := func(name string, c Config, realm string, want int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin, service := upstreamtest.New(t), upstreamtest.New(t)
			service.RequireToken("robot", "s3cret")
			origin.RequireToken("robot", "s3cret")
			origin.SetChallenge(`Bearer realm="` + realm + `",service="x"`)
			c.Endpoints, c.Credentials = []string{"http://reg.example"}, password(t)
			r := build(t, c)
			hosts := map[string]string{"reg.example": origin.Host, "auth.reg.example": service.Host, "gitlab.internal": service.Host}
			r.wire.Load().home.DialContext = resolving(nil, hosts) // does not see that the registry's address is private
			r.wire.Load().away.DialContext = resolving(r.guarding, hosts)
			_, err := r.Manifest(t.Context(), "app", oci.Reference{Tag: "1"})
			if got := service.Count(upstreamtest.Token, "GET"); got != want || want == 0 && !errors.Is(err, ErrDenied) {
				t.Errorf("%d token requests, want %d: %v", got, want, err)
			}
			if r.private.Load() {
				t.Error("the token service made the registry private, and with it every place that it points to")
			}
		})
	}
	f("listed", Config{TokenHosts: []string{"gitlab.internal"}}, "http://gitlab.internal/token", 1)
	f("not listed", Config{}, "http://auth.reg.example/token", 0)
}
