//go:build e2e

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDamagedLayerIsFetchedAgain flips one byte of a stored layer, small and large, between two runs of the mirror and
// during one. The next full pull is right at once, the bad file is in quarantine and counted, and only what was damaged is
// fetched again.
func TestDamagedLayerIsFetchedAgain(t *testing.T) {
	registry := must(t, shared.registry)
	small := pushRandom(t, registry, "library/flip-small", 2, 100_000)
	large := pushRandom(t, registry, "library/flip-large", 2, 8_000_000)
	g := newGate(t, registry)
	set := dockerHub(g)
	set.dir = filepath.Join(tempDir(t), "cache")
	m := startMirror(t, set)
	for _, i := range []*image{small, large} {
		pullPlain(t, m, i, "")
	}
	eventually(t, "layers stored", 10*time.Second, func() bool { return m.metric(t, "mirror_fills_in_flight") == 0 })

	expectFetchedOnce := func(m *mirror, i *image) {
		t.Helper()
		before := g.blobBytes("")
		for range 2 {
			pullPlain(t, m, i, "")
		}
		if n := g.blobBytes("") - before; n != i.layers[0].size {
			t.Errorf("the registry sent %d bytes, want the %d of the damaged layer", n, i.layers[0].size)
		}
	}
	expectQuarantine := func(m *mirror, counted, files int) {
		t.Helper()
		kept, err := os.ReadDir(filepath.Join(set.dir, "quarantine"))
		n := m.metric(t, "mirror_cache_quarantined_total")
		if err != nil || len(kept) != files || n != float64(counted) {
			t.Errorf("%d files in quarantine, %v, want %d; %v counted, want %d", len(kept), err, files, n, counted)
		}
	}

	flipStored(t, set.dir, large.layers[0], 4_000_000)
	expectFetchedOnce(m, large)
	expectQuarantine(m, 1, 1)
	eventually(t, "the layer stored", 10*time.Second, func() bool { return m.metric(t, "mirror_fills_in_flight") == 0 })
	m.signal(syscall.SIGTERM)
	if code, ended := m.wait(30 * time.Second); !ended || code != 0 {
		t.Fatalf("ended %v with code %d", ended, code)
	}

	flipStored(t, set.dir, large.layers[0], 7_999_999)
	flipStored(t, set.dir, small.layers[0], 0)
	again := startMirror(t, set)
	expectFetchedOnce(again, large)
	expectFetchedOnce(again, small)
	expectQuarantine(again, 2, 3)
}

// flipStored inverts one byte of a layer in the data directory.
func flipStored(t *testing.T, dir string, l layer, at int64) {
	t.Helper()
	_, encoded, _ := strings.Cut(l.digest, ":")
	file, err := os.OpenFile(filepath.Join(dir, "blobs", "sha256", encoded[:2], encoded), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] = ^b[0]
	if _, err := file.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
