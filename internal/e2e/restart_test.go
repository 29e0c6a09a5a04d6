//go:build e2e

package e2e_test

import (
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestMirrorIsKilledDuringADownload takes the power away in the middle of a fill, and looks at what the next process
// makes of the directory.
func TestMirrorIsKilledDuringADownload(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/killed", 2, 12_000_000)
	g := newGate(t, registry)
	set := dockerHub(g)
	set.dir = filepath.Join(tempDir(t), "cache")

	m := startMirror(t, set)
	mustPull(t, m, i, i.layers[0])
	if err := pullManifest(t.Context(), newClient(t), m, i, ""); err != nil {
		t.Fatal(err)
	}
	g.shape(0, 6_000_000)
	r := startReading(t, m, i, i.layers[1], i.layers[1].size/2)
	m.kill()
	r.leave()

	again := startMirror(t, set)
	t.Run("the interrupted blob is right", func(t *testing.T) {
		mustPull(t, again, i, i.layers[1])
	})
	t.Run("the complete blob was kept", func(t *testing.T) {
		before := g.blobBytes(i.layers[0].digest)
		if header := mustPull(t, again, i, i.layers[0]); header.Get("X-Cache") != "HIT" {
			t.Errorf("X-Cache is %q, want HIT", header.Get("X-Cache"))
		}
		if n := g.blobBytes(i.layers[0].digest) - before; n != 0 {
			t.Errorf("the registry sent %d bytes of a blob that was complete before the kill", n)
		}
	})
	t.Run("the names were kept", func(t *testing.T) {
		g.stop()
		eventually(t, "the tag is stale", 30*time.Second, func() bool {
			a := get(t, newClient(t), again.url+i.manifestPath(i.tag), "Accept", manifestTypes)
			return a.status == http.StatusOK && a.header.Get("X-Cache") == "STALE"
		})
		pullPlainBlobs(t, again, i)
	})
	t.Run("nothing is left of the first life", func(t *testing.T) { expectNoParts(t, again) })
}

// pullPlainBlobs pulls the layers, all of which must be there.
func pullPlainBlobs(t *testing.T, m *mirror, i *image) {
	t.Helper()
	for _, l := range i.layers {
		if got := mustPull(t, m, i, l).Get("X-Cache"); got != "HIT" {
			t.Errorf("X-Cache is %q, want HIT", got)
		}
	}
}

// TestMirrorIsStoppedDuringATransfer stops the mirror as a service manager does. Who is being served is served to the
// end, whoever is new is sent away, and the process ends well before the drain time is over.
func TestMirrorIsStoppedDuringATransfer(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/stopped", 2, 12_000_000)
	g := newGate(t, registry)
	g.shape(0, 4_000_000)
	set := dockerHub(g)
	set.dir = filepath.Join(tempDir(t), "cache")
	m := startMirror(t, set)

	r := startReading(t, m, i, i.layers[0], i.layers[0].size/4)
	m.signal(syscall.SIGTERM)
	eventually(t, "the mirror takes no new work", 10*time.Second, func() bool { return !m.takesWork(t) })
	if m.ready(t) == http.StatusOK {
		t.Error("/readyz is 200 while the mirror drains")
	}
	r.finish(t)
	code, ended := m.wait(15 * time.Second)
	if !ended || code != 0 {
		t.Fatalf("after the last transfer: ended %t with code %d, want an end with code 0 at once", ended, code)
	}

	again := startMirror(t, set)
	g.stop()
	if got := mustPull(t, again, i, i.layers[0]).Get("X-Cache"); got != "HIT" {
		t.Errorf("what was downloaded during the drain has X-Cache %q after a restart, want HIT", got)
	}
}

// TestClientsThatDoNotReadCannotHoldUpAStop has transfers that will not end by themselves: a client that reads nothing, and
// a registry that sends next to nothing.
func TestClientsThatDoNotReadCannotHoldUpAStop(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/stuck", 2, 30_000_000)
	g := newGate(t, registry)
	set := dockerHub(g)
	set.drain = 2 * time.Second
	m := startMirror(t, set)
	startReading(t, m, i, i.layers[0], 1)
	g.shape(0, 200_000)
	startReading(t, m, i, i.layers[1], 1)
	m.signal(syscall.SIGTERM)
	if code, ended := m.wait(20 * time.Second); !ended || code != 0 {
		t.Errorf("ended %t with code %d, want an end with code 0 after the drain time of 2 s", ended, code)
	}
}

// takesWork says whether a new connection gets an answer other than "go elsewhere".
func (m *mirror) takesWork(t *testing.T) bool {
	t.Helper()
	if !m.reachable() {
		return false
	}
	a, err := fetch(t.Context(), oneShot(), m.url+"/v2/")
	return err == nil && a.status == http.StatusOK
}
