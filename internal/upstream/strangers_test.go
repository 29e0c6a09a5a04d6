package upstream_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// asMembers configures several accounts, whose passwords the registry takes.
func asMembers(t *testing.T, origin *upstreamtest.Registry, members ...string) func(*upstream.Config) {
	t.Helper()
	origin.SetPasswords(func(username, password string) bool { return password == "password-of-"+username })
	return func(c *upstream.Config) {
		for _, member := range members {
			file := filepath.Join(t.TempDir(), member)
			if err := os.WriteFile(file, []byte("password-of-"+member), 0o600); err != nil {
				t.Fatal(err)
			}
			c.Accounts = append(c.Accounts, upstream.Credentials{Username: member, PasswordFile: file})
		}
	}
}

// TestStorageGetsNobodysCredentials: neither the first request to the place that a registry points to, nor those that go
// there straight, carry anything of any account, whichever is in use by then.
func TestStorageGetsNobodysCredentials(t *testing.T) {
	for scheme, require := range map[string]func(*upstreamtest.Registry){
		"token": func(r *upstreamtest.Registry) { r.RequireToken("alice", "") },
		"basic": func(r *upstreamtest.Registry) { r.RequireBasic("alice", "") },
	} {
		t.Run(scheme, func(t *testing.T) {
			origin := upstreamtest.New(t)
			blob := content(9000)
			d := origin.AddBlob("app", blob)
			require(origin)
			origin.UseCDN()
			r := connect(t, origin, asMembers(t, origin, "alice", "bob"))
			download := r.Download("app", d)
			segment(t, download, blob, 0, 3000)
			segment(t, download, blob, 3000, 6000)
			// The place is not good any more, and the first account has used up its limit.
			origin.Fail(upstreamtest.CDN, 1, upstreamtest.Fault{Status: http.StatusForbidden})
			origin.FailMethod(upstreamtest.Blob, http.MethodGet, 1, upstreamtest.Fault{Status: http.StatusTooManyRequests})
			segment(t, download, blob, 6000, 9000)
			segment(t, download, blob, 0, 9000)
			signedIn := map[string]bool{}
			for _, request := range origin.Requests() {
				if request.Kind == upstreamtest.Blob && request.Header.Get("Authorization") != "" {
					signedIn[request.Header.Get("Authorization")] = true
				}
				for _, secret := range []string{"Authorization", "Cookie", "Via", "Proxy-Authorization"} {
					if request.Kind == upstreamtest.CDN && request.Header.Get(secret) != "" {
						t.Errorf("storage was sent %s", secret)
					}
				}
			}
			if n := origin.Count(upstreamtest.CDN, ""); n != 5 || len(signedIn) != 2 {
				t.Errorf("%d requests to the storage, and %d accounts in use, want 5 and 2", n, len(signedIn))
			}
		})
	}
}

// TestForeignRealmGetsNobodysCredentials: no account is shown to a token service outside the registry's domain.
func TestForeignRealmGetsNobodysCredentials(t *testing.T) {
	thief, origin := upstreamtest.New(t), upstreamtest.New(t)
	origin.AddImage("app", "1")
	origin.RequireToken("alice", "")
	origin.SetChallenge(`Bearer realm="http://localhost` + thief.Host[strings.LastIndex(thief.Host, ":"):] + `/token",service="x"`)
	r := connect(t, origin, asMembers(t, origin, "alice", "bob"))
	if _, err := r.Manifest(t.Context(), "app", tag("1")); !errors.Is(err, upstream.ErrDenied) {
		t.Errorf("got %v, want ErrDenied", err)
	}
	if n := len(thief.Requests()); n != 0 {
		t.Errorf("%d requests reached a place outside the registry's domain", n)
	}
}
