//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// window is a Range request for a blob and what it stands for.
type window struct {
	name       string
	header     string
	start, end int64
}

// TestRangeOfABlobThatIsNotThereYet reads parts of a cold blob over a slow link. Each part must come while most of the
// blob is still away, and the parts together must not cost more than the blob.
func TestRangeOfABlobThatIsNotThereYet(t *testing.T) {
	registry := must(t, shared.registry)
	i := pushRandom(t, registry, "library/ranges", 2, 24_000_000)
	g := newGate(t, registry)
	g.shape(10*time.Millisecond, 4_000_000)
	m := startMirror(t, dockerHub(g))

	t.Run("one after another", func(t *testing.T) {
		l := i.layers[0]
		content := truth(t, registry, i.blobPath(l))
		for _, w := range windows(l.size) {
			if err := w.read(t.Context(), newClient(t), m, i, l, content); err != nil {
				t.Error(err)
			}
			if got := g.blobBytes(l.digest); got > l.size*3/4 {
				t.Errorf("%s came only after the registry had sent %d of %d bytes", w.name, got, l.size)
			}
		}
		mustPull(t, m, i, l)
		expectOnce(t, g, l)
	})
	t.Run("beside a whole download", func(t *testing.T) {
		l := i.layers[1]
		content := truth(t, registry, i.blobPath(l))
		whole := startReading(t, m, i, l, 1)
		var readers errgroup.Group
		for _, w := range windows(l.size) {
			client := newClient(t)
			readers.Go(func() error { return w.read(t.Context(), client, m, i, l, content) })
		}
		if err := readers.Wait(); err != nil {
			t.Error(err)
		}
		if got := g.blobBytes(l.digest); got > l.size*3/4 {
			t.Errorf("the ranges came only after the registry had sent %d of %d bytes", got, l.size)
		}
		whole.finish(t)
		expectOnce(t, g, l)
	})
}

// windows are the parts that lazy pullers and resuming clients ask for.
func windows(size int64) []window {
	const n = 64 << 10
	return []window{
		{"head", fmt.Sprintf("bytes=0-%d", n-1), 0, n},
		{"tail", fmt.Sprintf("bytes=%d-", size-n), size - n, size},
		{"suffix", fmt.Sprintf("bytes=-%d", n/2), size - n/2, size},
		{"middle", fmt.Sprintf("bytes=%d-%d", size/2, size/2+n-1), size / 2, size/2 + n},
	}
}

// read asks for the part and compares the answer with the content.
func (w window) read(ctx context.Context, c *http.Client, m *mirror, i *image, l layer, content []byte) error {
	a, err := fetch(ctx, c, m.url+i.blobPath(l), "Range", w.header)
	if err != nil {
		return err
	}
	contentRange := fmt.Sprintf("bytes %d-%d/%d", w.start, w.end-1, l.size)
	switch {
	case a.status != http.StatusPartialContent:
		return fmt.Errorf("%s: status %d, want 206", w.name, a.status)
	case a.header.Get("Content-Range") != contentRange:
		return fmt.Errorf("%s: Content-Range %q, want %q", w.name, a.header.Get("Content-Range"), contentRange)
	case string(a.body) != string(content[w.start:w.end]):
		return fmt.Errorf("%s: got %d bytes that are not those of %s", w.name, len(a.body), w.header)
	}
	return nil
}
