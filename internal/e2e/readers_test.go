//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestReadersDoNotDisturbEachOther lets clients of one cold blob come late, dawdle and leave. Whatever one of them does,
// the others get the blob, and the registry sends it once.
func TestReadersDoNotDisturbEachOther(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/readers", 5, 12_000_000)
	g := newGate(t, registry)
	g.shape(10*time.Millisecond, 8_000_000)
	set := dockerHub(g)
	set.race = true
	m := startMirror(t, set)

	stories := []struct {
		name string
		tell func(t *testing.T, l layer)
	}{
		{"a late reader joins the running download", func(t *testing.T, l layer) {
			early := startReading(t, m, i, l, l.size/2)
			late := startReading(t, m, i, l, 1)
			if got := late.header.Get("X-Cache"); got != "JOIN" {
				t.Errorf("the late reader has X-Cache %q, want JOIN", got)
			}
			early.finish(t)
			late.finish(t)
		}},
		{"a slow reader holds nobody up", func(t *testing.T, l layer) {
			slow := startReading(t, m, i, l, 1)
			startReading(t, m, i, l, 1).finish(t)
			for range 20 {
				slow.more(t, 4<<10)
				time.Sleep(5 * time.Millisecond)
			}
			slow.finish(t)
		}},
		{"a reader that leaves is not missed", func(t *testing.T, l layer) {
			stays := startReading(t, m, i, l, 1)
			leaves := startReading(t, m, i, l, l.size/4)
			leaves.leave()
			stays.finish(t)
		}},
		{"the download survives its first reader", func(t *testing.T, l layer) {
			first := startReading(t, m, i, l, 1)
			second := startReading(t, m, i, l, 1)
			first.leave()
			second.finish(t)
		}},
		{"a download that everybody left is taken up again", func(t *testing.T, l layer) {
			startReading(t, m, i, l, l.size/4).leave()
			time.Sleep(100 * time.Millisecond) // The mirror may notice it, or not: both must be right.
			startReading(t, m, i, l, 1).finish(t)
		}},
	}
	for n, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			l := i.layers[n]
			story.tell(t, l)
			expectOnce(t, g, l)
		})
	}
}

// expectOnce allows for what lies in the kernel when a connection to the registry is given up: it was sent, and has to be
// sent again.
func expectOnce(t *testing.T, g *gate, l layer) {
	t.Helper()
	const inFlight = 1 << 20
	spans := g.fetched(l.digest)
	t.Logf("%d bytes for a blob of %d in %d pieces", g.blobBytes(l.digest), l.size, len(spans))
	if twice := repeated(spans); twice > inFlight {
		t.Errorf("%d bytes of %d came twice: %v", twice, l.size, spans)
	}
	if got := g.blobBytes(l.digest); got < l.size || got > l.size+inFlight {
		t.Errorf("the registry sent %d bytes of a blob of %d: %v", got, l.size, spans)
	}
}

func TestClientsNoticeNothingOfABrokenUpstream(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/broken", 4, 12_000_000)
	g := newGate(t, registry)
	m := startMirror(t, dockerHub(g))

	t.Run("the connection breaks four times", func(t *testing.T) {
		l := i.layers[0]
		g.cut(l.digest, l.size/6, 4)
		mustPull(t, m, i, l)
		expectOnce(t, g, l)
		expectResumed(t, g, l, 4)
		eventually(t, "the fill counts as resumed", 10*time.Second, func() bool {
			return m.metric(t, "mirror_fills_total", `outcome="resumed"`) == 1
		})
	})
	t.Run("the connection breaks before the first byte", func(t *testing.T) {
		l := i.layers[1]
		g.cut(l.digest, 0, 1)
		mustPull(t, m, i, l)
		expectOnce(t, g, l)
	})
	t.Run("the connection falls silent", func(t *testing.T) {
		l := i.layers[3]
		g.stall(l.digest, l.size/3)
		mustPull(t, m, i, l)
		expectOnce(t, g, l)
	})
	t.Run("the registry restarts", func(t *testing.T) {
		l := i.layers[2]
		g.shape(0, 6_000_000)
		r := startReading(t, m, i, l, l.size/4)
		g.stop()
		time.Sleep(300 * time.Millisecond)
		g.start(t)
		finishAcrossRestart(t, m, i, r)
		expectOnce(t, g, l)
	})
}

// expectResumed wants every request after a break to ask for what is missing only.
func expectResumed(t *testing.T, g *gate, l layer, breaks int) {
	t.Helper()
	fetches := g.exchanges(http.MethodGet, "blobs", l.digest)
	if len(fetches) < breaks+1 {
		t.Errorf("%d requests for a blob whose connection broke %d times", len(fetches), breaks)
	}
	ranged := 0
	for _, x := range fetches {
		if x.header.Get("Range") != "" && x.status.Load() == http.StatusPartialContent {
			ranged++
		}
	}
	if ranged < breaks {
		t.Errorf("%d requests asked for a range, want at least %d", ranged, breaks)
	}
}

// finishAcrossRestart reads on as clients do: when the body ends short, which it may while the registry is away, they
// ask for the rest.
func finishAcrossRestart(t *testing.T, m *mirror, i *image, r *reading) {
	t.Helper()
	_, err := io.Copy(&r.sofar, r.body)
	for attempt := 0; err != nil && attempt < 60; attempt++ {
		t.Logf("body ended after %d bytes: %v", r.sofar.Len(), err)
		time.Sleep(500 * time.Millisecond)
		err = r.resume(t, m, i)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(&r.sofar, r.layer.digest); err != nil {
		t.Fatal(err)
	}
}

// resume asks for the bytes after those that are there.
func (r *reading) resume(t *testing.T, m *mirror, i *image) error {
	t.Helper()
	from := fmt.Sprintf("bytes=%d-", r.sofar.Len())
	res, err := open(t.Context(), newClient(t), m.url+i.blobPath(r.layer), "Range", from)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("status %d for %s", res.StatusCode, from)
	}
	_, err = io.Copy(&r.sofar, res.Body)
	return err
}
