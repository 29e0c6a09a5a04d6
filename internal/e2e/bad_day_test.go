//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// badDay is a registry, a mirror with too little room, and clients of every kind, while the registry's content breaks
// in every way. The mirror runs with the race detector.
type badDay struct {
	gate    *gate
	mirror  *mirror
	image   *image
	content map[string][]byte // by digest
}

// TestClientsOnABadDay lets everything happen at once. Whatever happens, no client is given wrong bytes, each gets its
// content when it asks again, and nothing is left when they are gone.
func TestClientsOnABadDay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	registry := must(t, shared.registry)
	d := &badDay{image: pushRandom(t, registry, "library/bad-day", 12, 6_000_000), content: map[string][]byte{}}
	for _, l := range d.image.layers {
		d.content[l.digest] = truth(t, registry, d.image.blobPath(l))
	}
	d.gate = newGate(t, registry)
	d.gate.shape(2*time.Millisecond, 30_000_000)
	set := dockerHub(d.gate)
	set.race, set.maxSize = true, "64MiB"
	d.mirror = startMirror(t, set)
	goroutines, files := d.mirror.goroutines(t), d.mirror.openFiles(t)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d.live(t, ctx, seed)
	if err := d.recover(ctx, newClient(t)); err != nil {
		t.Error(err)
	}
	d.gate.stop()
	expectGivenBack(t, d.mirror, goroutines, files)
}

// live runs the clients for a while, and the trouble beside them until they are done.
func (d *badDay) live(t *testing.T, ctx context.Context, seed uint64) {
	t.Helper()
	over := make(chan struct{})
	var trouble, clients errgroup.Group
	trouble.Go(func() error { return d.trouble(over, rand.New(rand.NewPCG(seed, 0))) })
	for n := range 24 {
		client, r := newClient(t), rand.New(rand.NewPCG(seed, uint64(n)+1))
		clients.Go(func() error {
			defer client.CloseIdleConnections()
			for range 10 {
				if err := d.visit(ctx, client, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	close(over)
	_ = trouble.Wait() // It has no errors.
	d.gate.repair()
}

// trouble breaks the content of a random layer every few moments, and repairs everything now and then.
func (d *badDay) trouble(over <-chan struct{}, r *rand.Rand) error {
	for {
		l := d.image.layers[r.IntN(len(d.image.layers))]
		switch r.IntN(4) {
		case 0:
			d.gate.cut(l.digest, r.Int64N(l.size), 1+r.IntN(3))
		case 1:
			d.gate.corrupt(l.digest, r.Int64N(l.size))
		default:
			d.gate.repair()
		}
		select {
		case <-over:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// visit is one request of a random kind for a random layer.
func (d *badDay) visit(ctx context.Context, client *http.Client, r *rand.Rand) error {
	l := d.image.layers[r.IntN(len(d.image.layers))]
	switch r.IntN(4) {
	case 0:
		return vanish(d.mirror, d.image, l, r.IntN(2000))
	case 1:
		start := r.Int64N(l.size)
		return d.part(ctx, client, l, start, min(l.size, start+1+r.Int64N(1<<20)))
	default:
		return d.whole(ctx, client, l)
	}
}

// whole accepts a refusal or a short body, but no complete body with other bytes.
func (d *badDay) whole(ctx context.Context, client *http.Client, l layer) error {
	a, err := fetch(ctx, client, d.mirror.url+d.image.blobPath(l))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("layer %s: no end in sight: %w", l.digest, err)
	case err != nil || a.status >= http.StatusInternalServerError:
		return nil
	case a.status != http.StatusOK:
		return fmt.Errorf("layer %s: status %d: %.200s", l.digest, a.status, a.body)
	case !slices.Equal(a.body, d.content[l.digest]):
		return fmt.Errorf("layer %s: a complete body of %d wrong bytes", l.digest, len(a.body))
	}
	return nil
}

// part accepts a refusal or a short body. Bytes of a part may be wrong while the registry sends wrong ones, for clients
// verify what they assemble, but never more or fewer than announced.
func (d *badDay) part(ctx context.Context, client *http.Client, l layer, start, end int64) error {
	a, err := fetch(ctx, client, d.mirror.url+d.image.blobPath(l), "Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("part of %s: no end in sight: %w", l.digest, err)
	case err != nil || a.status >= http.StatusInternalServerError:
		return nil
	case a.status != http.StatusPartialContent || int64(len(a.body)) != end-start:
		return fmt.Errorf("part %d-%d of %s: status %d with %d bytes", start, end, l.digest, a.status, len(a.body))
	}
	return nil
}

// recover pulls everything once more from the repaired registry, trying again while the mirror is wary of it.
func (d *badDay) recover(ctx context.Context, client *http.Client) error {
	defer client.CloseIdleConnections()
	for _, l := range d.image.layers {
		var err error
		for range 100 {
			if _, err = pullBlob(ctx, client, d.mirror.url+d.image.blobPath(l), l); err == nil {
				break
			}
			time.Sleep(time.Second)
		}
		if err != nil {
			return fmt.Errorf("after the repair: %w", err)
		}
	}
	return nil
}
