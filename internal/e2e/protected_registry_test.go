//go:build e2e

package e2e_test

import (
	"crypto/rand"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestRegistryThatWantsTokens has one registry under two names: "docker.io" is asked anonymously, "registry.example"
// with the credentials of the configuration.
func TestRegistryThatWantsTokens(t *testing.T) {
	tokens := startTokenServer(t)
	registry := tokens.protectedRegistry(t)
	open := pushRandom(t, registry, "public/app", 2, 256<<10, tokens.push(t, "public/app"))
	private := pushRandom(t, registry, "team/app", 3, 256<<10, tokens.push(t, "team/app"))

	secret := filepath.Join(tempDir(t), "password")
	writeFile(t, secret, tokens.password+"\n")
	endpoint := "http://" + registry.addr
	m := startMirror(t, setup{upstreams: []upstream{
		{registry: "docker.io", endpoint: endpoint},
		{registry: "registry.example", endpoint: endpoint, username: tokens.username, passwordFile: secret},
	}})

	t.Run("anonymous clients get what is public", func(t *testing.T) {
		pullPlain(t, m, open, "")
		if tokens.named.Load() != 0 {
			t.Error("the mirror used credentials for an upstream that has none")
		}
		if tokens.anonymous.Load() == 0 {
			t.Error("the mirror asked for no anonymous token")
		}
	})
	t.Run("what is private does not exist for an anonymous upstream", func(t *testing.T) {
		expectRefused(t, get(t, newClient(t), m.url+private.manifestPath("latest"), "Accept", manifestTypes))
	})
	t.Run("credentials open what is private, with one token for many clients", func(t *testing.T) {
		var clients errgroup.Group
		for range 10 {
			clients.Go(func() error { return pullImage(t.Context(), newClient(t), m, private, "?ns=registry.example") })
		}
		if err := clients.Wait(); err != nil {
			t.Fatal(err)
		}
		if n := tokens.named.Load(); n < 1 || n > 2 {
			t.Errorf("10 clients cost %d tokens, want one, or two for a second scope", n)
		}
	})
	t.Run("a digest is no key to a private blob", func(t *testing.T) {
		expectRefused(t, get(t, newClient(t), m.url+private.blobPath(private.layers[0])))
		expectRefused(t, get(t, newClient(t), m.url+private.manifestPath(private.digest), "Accept", manifestTypes))
	})
	t.Run("containerd pulls from the private registry", func(t *testing.T) {
		startContainerd(t, m.url).pull(t, "registry.example/team/app:latest")
	})
	t.Run("a new password is taken up without a restart", func(t *testing.T) {
		other := pushRandom(t, registry, "team/other", 1, 64<<10, tokens.push(t, "team/other"))
		tokens.password = rand.Text()
		writeFile(t, secret, tokens.password+"\n")
		m.signal(syscall.SIGHUP)
		eventually(t, "pull with the new password", time.Minute, func() bool {
			return pullImage(t.Context(), newClient(t), m, other, "?ns=registry.example") == nil
		})
	})
	t.Run("the password shows nowhere", func(t *testing.T) {
		metrics := string(get(t, oneShot(), m.admin+"/metrics").body)
		if strings.Contains(m.output(), tokens.password) || strings.Contains(metrics, tokens.password) {
			t.Error("the password stands in the mirror's log or metrics")
		}
	})
}

// expectRefused wants an answer that lets clients go on to the next registry: never a challenge, which would make them
// send their credentials for another one here.
func expectRefused(t *testing.T, a answer) {
	t.Helper()
	if a.status != http.StatusNotFound && a.status != http.StatusForbidden {
		t.Errorf("status %d, want 404 or 403; body %.200s", a.status, a.body)
	}
	if challenge := a.header.Get("WWW-Authenticate"); challenge != "" {
		t.Errorf("the upstream's challenge reached the client: %s", challenge)
	}
}
