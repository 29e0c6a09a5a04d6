package mirror_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/units"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func prefetching(u *upstream.Config, _ *cache.Config) { u.Prefetch = true }

// get is what a client does that gets the bytes of a manifest.
func (h *house) get(repo string, ref oci.Reference, want mirror.Outcome) *mirror.Manifest {
	h.t.Helper()
	m := h.manifest(repo, ref, want)
	h.Pulled(h.t.Context(), repository(h.t, repo), m)
	return m
}

// openBlob opens a blob as a client does that begins to read.
func (h *house) openBlob(repo string, d oci.Digest) *mirror.Blob {
	h.t.Helper()
	b, err := h.Blob(h.t.Context(), repository(h.t, repo), d)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = b.Close() })
	return b
}

// asked reports how often the upstream was asked for the bytes of content.
func asked(origin *upstreamtest.Registry, d oci.Digest) (n int) {
	for _, r := range origin.Requests() {
		if r.Method == http.MethodGet && strings.HasSuffix(r.Path, d.String()) {
			n++
		}
	}
	return n
}

// barrier keeps requests for some contents until it is opened, and tells how many it keeps.
type barrier struct {
	mu      sync.Mutex
	waiting int
	most    int
	opened  chan struct{}
	open    func()
}

func keep(t *testing.T, origin *upstreamtest.Registry, which func(*http.Request) bool) *barrier {
	b := &barrier{opened: make(chan struct{})}
	b.open = sync.OnceFunc(func() { close(b.opened) })
	t.Cleanup(b.open)
	origin.Hook(func(r *http.Request) *upstreamtest.Fault {
		if which(r) {
			b.add(1)
			<-b.opened
			b.add(-1)
		}
		return nil
	})
	return b
}

func (b *barrier) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting += n
	b.most = max(b.most, b.waiting)
}

func (b *barrier) kept() (now, most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting, b.most
}

func isBlob(r *http.Request) bool { return upstreamtest.KindOf(r) == upstreamtest.Blob }

// A client that takes one layer after the other finds them under way or here: the upstream was asked for each of them before
// the client asked, once.
func TestPullOverlaps(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20, 2<<20+1, 2<<20+2, 2<<20+3, 2<<20+4)
	h := open(t, origin, prefetching)
	h.get("app", tag("1"), mirror.Miss)
	h.blob("app", image.Config, mirror.Miss)
	first := h.openBlob("app", image.Layers[0].Digest)
	for _, layer := range image.Layers[1:] {
		eventually(t, "a layer is fetched that nobody has asked for", func() bool { return asked(origin, layer.Digest) == 1 })
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	h.settle()
	for _, layer := range image.Layers {
		h.blob("app", layer, mirror.Hit)
		if n := origin.Sent(layer.Digest); n != layer.Size {
			t.Errorf("the upstream has sent %d bytes of a layer of %d", n, layer.Size)
		}
	}
	ahead, used := h.counter("mirror_prefetched_bytes_total"), h.counter("mirror_prefetch_used_bytes_total")
	if want := float64(4*2<<20 + 1 + 2 + 3 + 4); ahead != want || used != want {
		t.Errorf("%v bytes were fetched ahead and %v of them used, want %v", ahead, used, want)
	}
}

// A registry that takes no more than one layer at a time, and says so without a time, keeps no client from the next one
// because of what nobody has asked for.
func TestRefusedAheadIsNobodysConcern(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20, 2<<20+1, 2<<20+2, 2<<20+3)
	h := open(t, origin, prefetching)
	h.get("app", tag("1"), mirror.Miss)
	h.blob("app", image.Config, mirror.Miss)
	first := image.Layers[0].Digest.String()
	origin.Hook(func(r *http.Request) *upstreamtest.Fault {
		if isBlob(r) && !strings.HasSuffix(r.URL.Path, first) {
			return &upstreamtest.Fault{Status: http.StatusTooManyRequests}
		}
		return nil
	})
	b := h.openBlob("app", image.Layers[0].Digest)
	eventually(t, "something is fetched ahead", func() bool { return origin.Count(upstreamtest.Blob, "GET") > 2 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	h.settle()
	if n := origin.Count(upstreamtest.Blob, "GET"); n > 2+4 {
		t.Errorf("%d requests for blobs, want one for each that may be fetched ahead at a time, and no more", n)
	}
	origin.Hook(nil)
	for _, layer := range image.Layers[1:] {
		h.blob("app", layer, mirror.Miss)
	}
}

// Whoever asks for what is being fetched ahead joins it.
func TestClientJoinsWhatIsFetchedAhead(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20, 4<<20)
	h := open(t, origin, prefetching)
	h.get("app", tag("1"), mirror.Miss)
	second := image.Layers[1]
	b := keep(t, origin, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, second.Digest.String()) })
	h.openBlob("app", image.Layers[0].Digest)
	eventually(t, "the second layer is fetched", func() bool { now, _ := b.kept(); return now == 1 })
	var wg sync.WaitGroup
	wg.Go(func() { h.blob("app", second, mirror.Join) })
	eventually(t, "the client waits for it", func() bool {
		for _, fill := range h.Fills() {
			if fill.Digest == second.Digest {
				return fill.Readers > 0
			}
		}
		return false
	})
	b.open()
	wg.Wait()
	h.settle()
	if n := asked(origin, second.Digest); n != 1 {
		t.Errorf("the upstream was asked %d times", n)
	}
	if used := h.counter("mirror_prefetch_used_bytes_total"); used != float64(second.Size) {
		t.Errorf("%v bytes were used, want %d", used, second.Size)
	}
}

// What only reads names, manifests or configurations fetches no layer.
func TestReadingIsNoPull(t *testing.T) {
	origin := upstreamtest.New(t)
	pulled := origin.AddImage("pulled", "1", 2<<20, 2<<20+1)
	read := origin.AddImage("read", "1", 2<<20+2, 2<<20+3)
	headed := origin.AddImage("headed", "1", 2<<20+4, 2<<20+5)
	h := open(t, origin, prefetching)
	h.get("read", tag("1"), mirror.Miss)
	h.get("read", digest(read.Digest), mirror.Hit)
	h.blob("read", read.Config, mirror.Miss)
	for _, layer := range read.Layers {
		if _, err := h.StatBlob(t.Context(), repository(t, "read"), layer.Digest); err != nil {
			t.Fatal(err)
		}
	}
	h.manifest("headed", tag("1"), mirror.Miss) // a HEAD: nobody got the bytes
	h.openBlob("headed", headed.Layers[0].Digest)
	h.get("pulled", tag("1"), mirror.Miss)
	h.openBlob("pulled", pulled.Layers[0].Digest)
	eventually(t, "the pull is noticed", func() bool { return asked(origin, pulled.Layers[1].Digest) == 1 })
	for _, layer := range []upstreamtest.Content{read.Layers[0], read.Layers[1], headed.Layers[1]} {
		if n := asked(origin, layer.Digest); n != 0 {
			t.Errorf("a layer that nobody pulls was asked for %d times", n)
		}
	}
}

// However much there is to fetch, only some is fetched at a time, and all of it in the end.
func TestPrefetchKeepsItsBounds(t *testing.T) {
	const most = 4
	origin := upstreamtest.New(t)
	var sizes []int
	for i := range 3 * most {
		sizes = append(sizes, 2<<20+i)
	}
	image := origin.AddImage("app", "1", sizes...)
	h := open(t, origin, prefetching)
	h.get("app", tag("1"), mirror.Miss)
	h.blob("app", image.Config, mirror.Miss)
	b := keep(t, origin, func(r *http.Request) bool {
		return isBlob(r) && !strings.HasSuffix(r.URL.Path, image.Layers[0].Digest.String())
	})
	h.openBlob("app", image.Layers[0].Digest)
	eventually(t, "the bound is reached", func() bool { now, _ := b.kept(); return now == most })
	if got, want := h.Upstreams()[0].Prefetch, (mirror.Prefetch{Enabled: true, Fills: most, Planned: 2*most - 1}); got != want {
		t.Errorf("the state is %+v, want %+v", got, want)
	}
	b.open()
	for _, layer := range image.Layers {
		eventually(t, "every layer is fetched", func() bool { return asked(origin, layer.Digest) == 1 })
	}
	if _, held := b.kept(); held != most {
		t.Errorf("%d were fetched at once", held)
	}
}

// Few connections leave no room for what nobody has asked for.
func TestClientsGoFirst(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20, 2<<20+1, 2<<20+2)
	h := open(t, origin, prefetching, func(u *upstream.Config, _ *cache.Config) { u.Limits.Connections = 4 })
	h.get("app", tag("1"), mirror.Miss)
	b := keep(t, origin, isBlob)
	var wg sync.WaitGroup
	wg.Go(func() { h.blob("app", image.Layers[0], mirror.Miss) })
	eventually(t, "the client's request is sent", func() bool { now, _ := b.kept(); return now == 1 })
	b.open()
	wg.Wait()
	eventually(t, "the next layer is fetched when the line is free", func() bool { return asked(origin, image.Layers[1].Digest) == 1 })
	h.settle()
}

// Nothing that is used makes room for what nobody has asked for.
func TestPrefetchNeedsRoom(t *testing.T) {
	origin := upstreamtest.New(t)
	small := origin.AddImage("small", "1", 1<<20, 1<<20+1)
	large := origin.AddImage("large", "1", 2<<20, 20<<20)
	h := open(t, origin, prefetching, func(_ *upstream.Config, c *cache.Config) { c.MaxSize = 16 * units.MiB })
	h.get("large", tag("1"), mirror.Miss)
	h.openBlob("large", large.Layers[0].Digest)
	h.get("small", tag("1"), mirror.Miss)
	h.openBlob("small", small.Layers[0].Digest)
	eventually(t, "what fits is fetched", func() bool { return asked(origin, small.Layers[1].Digest) == 1 })
	if n := asked(origin, large.Layers[1].Digest); n != 0 {
		t.Errorf("what does not fit was asked for %d times", n)
	}
	h.settle()
}

// Of an index, the manifest is fetched ahead that clients of this repository took of another index before, and no other.
func TestManifestOfTheUsualPlatform(t *testing.T) {
	origin := upstreamtest.New(t)
	add := func(name string) upstreamtest.Index {
		return origin.AddIndex("app", name, origin.AddImage("app", "", 2<<20), origin.AddImage("app", "", 2<<20))
	}
	first, second := add("1"), add("2")
	h := open(t, origin, prefetching)
	h.get("app", tag("1"), mirror.Miss)
	h.get("app", digest(first.Images[1].Digest), mirror.Miss)
	h.get("app", tag("2"), mirror.Miss)
	eventually(t, "the manifest is fetched", func() bool { return asked(origin, second.Images[1].Digest) == 1 })
	for _, other := range []oci.Digest{first.Images[0].Digest, second.Images[0].Digest} {
		if n := asked(origin, other); n != 0 {
			t.Errorf("a manifest of a platform that nobody has was asked for %d times", n)
		}
	}
	if n := origin.Count(upstreamtest.Blob, ""); n != 0 {
		t.Errorf("%d requests for blobs that nobody pulls", n)
	}
}

// What was fetched ahead is confirmed to be the repository's, as if a client had asked for it.
func TestPrefetchConfirms(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20, 2<<20+1)
	config := secretive(t, "registry.test", origin)
	config.Prefetch = true
	h := openAll(t, origin, cachetest.Config(t), config)
	h.get("app", tag("1"), mirror.Miss)
	h.openBlob("app", image.Layers[0].Digest)
	eventually(t, "the second layer is here", func() bool { return h.counter("mirror_prefetched_bytes_total") > 0 && len(h.Fills()) == 0 })
	h.blob("app", image.Layers[1], mirror.Hit)
	if n := origin.Count(upstreamtest.Blob, http.MethodHead); n != 0 {
		t.Errorf("the upstream was asked %d times whether it has what it has sent", n)
	}
}

// A layer that cannot be fetched ahead costs nobody anything, and is not tried again and again.
func TestPrefetchFails(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20, 2<<20+1, 2<<20+2)
	origin.Remove("app", image.Layers[1].Digest)
	h := open(t, origin, prefetching)
	h.get("app", tag("1"), mirror.Miss)
	h.openBlob("app", image.Layers[0].Digest)
	eventually(t, "the rest is fetched", func() bool { return asked(origin, image.Layers[2].Digest) == 1 && len(h.Fills()) == 0 })
	_, err := h.Blob(t.Context(), repository(t, "app"), image.Layers[1].Digest)
	if !errors.Is(err, upstream.ErrNotFound) {
		t.Error(err)
	}
	h.get("app", tag("1"), mirror.Hit)
	h.blob("app", image.Layers[2], mirror.Hit)
	if n := asked(origin, image.Layers[1].Digest); n != 1 {
		t.Errorf("the missing layer was asked for %d times", n)
	}
}

// A stop waits for nothing that is fetched ahead, and lets nothing more begin.
func TestCloseEndsPrefetch(t *testing.T) {
	origin := upstreamtest.New(t)
	var sizes []int
	for i := range 9 {
		sizes = append(sizes, 2<<20+i)
	}
	image := origin.AddImage("app", "1", sizes...)
	h := open(t, origin, prefetching)
	h.get("app", tag("1"), mirror.Miss)
	b := keep(t, origin, func(r *http.Request) bool {
		return isBlob(r) && !strings.HasSuffix(r.URL.Path, image.Layers[0].Digest.String())
	})
	first := h.openBlob("app", image.Layers[0].Digest)
	eventually(t, "layers are fetched", func() bool { now, _ := b.kept(); return now == 4 })
	h.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	b.open()
	h.settle()
	time.Sleep(time.Millisecond)
	if n := origin.Count(upstreamtest.Blob, ""); n != 5 {
		t.Errorf("%d requests, want those for the client's layer and for four ahead of it", n)
	}
}

// The switch is off where the configuration says so.
func TestPrefetchIsSwitchedOff(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20, 2<<20+1)
	h := open(t, origin)
	h.get("app", tag("1"), mirror.Miss)
	h.blob("app", image.Layers[0], mirror.Miss)
	h.settle()
	h.blob("app", image.Layers[1], mirror.Miss)
}
