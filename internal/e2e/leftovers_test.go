//go:build e2e

package e2e_test

import (
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestNothingIsLeftBehindAfterLoad puts well-behaved and rude clients on the mirror and compares the process after the
// last of them with the process before the first.
func TestNothingIsLeftBehindAfterLoad(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/load", 5, 4_000_000)
	g := newGate(t, registry)
	g.shape(5*time.Millisecond, 10_000_000)
	m := startMirror(t, dockerHub(g))
	goroutines, files := m.goroutines(t), m.openFiles(t)

	load(t, m, i)
	g.stop() // Idle connections to the registry are not what this test looks for.

	expectGivenBack(t, m, goroutines, files)
	expectNoParts(t, m)
}

// expectGivenBack waits until the mirror holds about as many goroutines and descriptors as it did before its clients
// came. A client that is not let go costs at least one of both, and there were many.
func expectGivenBack(t *testing.T, m *mirror, goroutines, files int) {
	t.Helper()
	const slack = 12
	for range 60 {
		if m.goroutines(t) <= goroutines+slack && m.openFiles(t) <= files+slack {
			return
		}
		time.Sleep(time.Second)
	}
	t.Errorf("goroutines %d before and %d after, descriptors %d before and %d after; the goroutines:\n%s",
		goroutines, m.goroutines(t), files, m.openFiles(t), m.goroutineProfile(t))
}

// load pulls the image with 20 clients, while 100 requests are given up in the middle of their body or of a range.
func load(t *testing.T, m *mirror, i *image) {
	t.Helper()
	var clients errgroup.Group
	for range 20 {
		client := newClient(t)
		clients.Go(func() error {
			defer client.CloseIdleConnections()
			_, err := pullAsDocker(t.Context(), client, m, i)
			return err
		})
	}
	for n := range 100 {
		l := i.layers[n%len(i.layers)]
		clients.Go(func() error { return vanish(m, i, l, n) })
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
}

// vanish asks for a blob, reads a little of the answer and closes the connection.
func vanish(m *mirror, i *image, l layer, n int) error {
	request := "GET " + i.blobPath(l) + " HTTP/1.1\r\nHost: " + m.addr + "\r\n"
	if n%2 == 1 {
		request += "Range: bytes=1000000-\r\n"
	}
	conn, err := dial(m.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(request + "\r\n")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, n*16+1))
	return err
}

// expectNoParts wants no download running and no partial content kept, on the word of the metrics and on disk.
func expectNoParts(t *testing.T, m *mirror) {
	t.Helper()
	eventually(t, "no download running", time.Minute, func() bool { return m.metric(t, "mirror_fills_in_flight") == 0 })
	for _, name := range []string{"mirror_cache_bytes", "mirror_cache_blobs"} {
		if n := m.metric(t, name, `tier="partial"`); n != 0 {
			t.Errorf("%s{tier=\"partial\"} is %v, want 0", name, n)
		}
	}
	err := filepath.WalkDir(m.cache, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		below := strings.ToLower(strings.TrimPrefix(path, m.cache))
		for _, word := range []string{"part", "tmp", "temp"} {
			if strings.Contains(below, word) {
				t.Errorf("file left behind: %s", below)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// dial opens a connection that the caller may close rudely.
func dial(addr string) (io.ReadWriteCloser, error) {
	return net.DialTimeout("tcp", addr, 10*time.Second)
}
