package mirror_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/mirror"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func TestTagFresh(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(never))
	h.manifest("app", tag("1"), mirror.Miss)
	asked := len(origin.Requests())
	for range 100 {
		if m := h.manifest("app", tag("1"), mirror.Hit); m.Descriptor.Digest != image.Digest || m.Source == mirror.Upstream {
			t.Fatalf("got %s from %v", m.Descriptor.Digest, m.Source)
		}
	}
	if n := len(origin.Requests()); n != asked {
		t.Errorf("a fresh tag cost %d requests", n-asked)
	}
}

func TestTagIsCheckedByHead(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Reset()
	h.manifest("app", tag("1"), mirror.Hit)
	if heads, gets := origin.Count(upstreamtest.Manifest, "HEAD"), origin.Count(upstreamtest.Manifest, "GET"); heads != 1 || gets != 0 {
		t.Errorf("a check cost %d HEAD and %d GET, want 1 and 0", heads, gets)
	}
}

func TestTagMoves(t *testing.T) {
	origin := upstreamtest.New(t)
	old := origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Reset()
	now := origin.AddImage("app", "1", 2000)
	if m := h.manifest("app", tag("1"), mirror.Miss); m.Descriptor.Digest != now.Digest {
		t.Errorf("tag names %s, want %s", m.Descriptor.Digest, now.Digest)
	}
	if gets := origin.Count(upstreamtest.Manifest, "GET"); gets != 1 {
		t.Errorf("the new manifest was fetched %d times", gets)
	}
	h.manifest("app", digest(old.Digest), mirror.Hit) // a client may hold the old digest from a moment ago
	origin.Tag("app", "2", now.Digest)
	origin.Reset()
	h.manifest("app", tag("2"), mirror.Miss)
	origin.Tag("app", "2", old.Digest)
	origin.Reset()
	h.manifest("app", tag("2"), mirror.Hit)
	if gets := origin.Count(upstreamtest.Manifest, "GET"); gets != 0 {
		t.Errorf("a digest that is here was fetched %d times", gets)
	}
}

// The tag must not name the new digest before its bytes are here: while they cannot be had, the old answer stays.
func TestTagAndBytesSwitchTogether(t *testing.T) {
	origin := upstreamtest.New(t)
	old := origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.AddImage("app", "1", 2000)
	origin.FailMethod(upstreamtest.Manifest, "GET", -1, upstreamtest.Fault{Status: http.StatusServiceUnavailable})
	if m := h.manifest("app", tag("1"), mirror.Stale); m.Descriptor.Digest != old.Digest || m.Warning == "" {
		t.Errorf("got %s with warning %q, want the old digest with a warning", m.Descriptor.Digest, m.Warning)
	}
}

func TestChecksCollapse(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	origin.Hook(func(r *http.Request) *upstreamtest.Fault {
		once.Do(func() { close(arrived) })
		<-release
		return nil
	})
	var wg sync.WaitGroup
	var misses, joins atomic.Int32
	ask := func() {
		m, err := h.Manifest(t.Context(), repository(t, "app"), tag("1"))
		switch {
		case err != nil:
			t.Error(err)
		case m.Outcome == mirror.Miss:
			misses.Add(1)
		case m.Outcome == mirror.Join:
			joins.Add(1)
		}
	}
	wg.Go(ask)
	<-arrived
	for range 49 {
		wg.Go(ask)
	}
	time.Sleep(50 * time.Millisecond) // lets most of them reach the check; whoever is late is a hit, which is right too
	close(release)
	wg.Wait()
	if n := origin.Count(upstreamtest.Manifest, "GET"); n != 1 || misses.Load() != 1 {
		t.Errorf("50 clients: %d fetches, %d misses, %d joins; want 1 fetch and 1 miss", n, misses.Load(), joins.Load())
	}
}

func TestTagStale(t *testing.T) {
	for name, trouble := range map[string]func(*upstreamtest.Registry){
		"upstream is gone":          func(o *upstreamtest.Registry) { o.Stop() },
		"upstream answers 500":      func(o *upstreamtest.Registry) { o.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: 500}) },
		"upstream answers 429":      func(o *upstreamtest.Registry) { o.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: 429}) },
		"upstream hangs":            func(o *upstreamtest.Registry) { o.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true}) },
		"upstream shows a web page": func(o *upstreamtest.Registry) { o.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{HTML: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := upstreamtest.New(t)
			image := origin.AddImage("app", "1", 1000)
			h := open(t, origin, fresh(always))
			h.pull("app", image)
			h.manifest("app", tag("1"), mirror.Miss)
			trouble(origin)
			for range 20 {
				m := h.manifest("app", tag("1"), mirror.Stale)
				if m.Descriptor.Digest != image.Digest || !strings.Contains(m.Warning, "tag 1") {
					t.Fatalf("got %s with warning %q", m.Descriptor.Digest, m.Warning)
				}
			}
			for _, l := range append(image.Layers, image.Config) {
				h.blob("app", l, mirror.Hit)
			}
		})
	}
}

// Once the check of a tag has failed, nobody waits for the next one.
func TestStaleAnswersAtOnce(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	h.manifest("app", tag("1"), mirror.Stale)
	origin.Reset()
	for range 100 {
		ctx := within(t, time.Second) // far below the time of a check
		m, err := h.Manifest(ctx, repository(t, "app"), tag("1"))
		if err != nil || m.Outcome != mirror.Stale {
			t.Fatal(m, err)
		}
	}
	if n := len(origin.Requests()); n > 1 {
		t.Errorf("100 stale answers cost %d requests", n)
	}
}

func TestTagRecovers(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.FailMethod(upstreamtest.Manifest, "HEAD", 2, upstreamtest.Fault{Status: 500})
	h.manifest("app", tag("1"), mirror.Stale)
	now := origin.AddImage("app", "1", 3000)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		m, err := h.Manifest(t.Context(), repository(t, "app"), tag("1"))
		if err != nil {
			t.Fatal(err)
		}
		if m.Descriptor.Digest == now.Digest && m.Warning == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("tag stays stale after the upstream is back")
		}
	}
}

func TestTagTooOldToBeStale(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always), func(u *upstream.Config, _ *cacheConfig) { u.Tags.StaleFor = time.Nanosecond })
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Stop()
	if err := h.manifestError("app", tag("1")); !errors.Is(err, upstream.ErrUnavailable) {
		t.Error(err)
	}
}

func TestTagGone(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Untag("app", "1")
	if err := h.manifestError("app", tag("1")); !errors.Is(err, upstream.ErrNotFound) {
		t.Error(err)
	}
	origin.Reset()
	for range 10 {
		if err := h.manifestError("app", tag("1")); !errors.Is(err, upstream.ErrNotFound) {
			t.Error(err)
		}
	}
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("asked %d times for what is known to be missing", n)
	}
	h.manifest("app", digest(image.Digest), mirror.Hit)
}

func TestUnknownTagWhileUpstreamIsDown(t *testing.T) {
	origin := upstreamtest.New(t)
	h := open(t, origin)
	origin.Stop()
	if err := h.manifestError("app", tag("1")); !errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("unknown and unreachable: %v", err)
	}
	origin.Start()
	origin.AddImage("app", "1", 10)
	h.manifest("app", tag("1"), mirror.Miss) // an outage is not remembered as missing
}

func TestUpstreamThatTellsNoDigest(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{NoDigest: true})
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	h.manifest("app", tag("1"), mirror.Miss) // it has to be fetched to be checked
}

func TestRestartKeepsTags(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	dir := t.TempDir()
	same := func(_ *upstream.Config, c *cacheConfig) { c.Dir = dir }
	t.Run("before", func(t *testing.T) {
		h := open(t, origin, same)
		h.pull("app", image)
		h.manifest("app", tag("1"), mirror.Miss)
	})
	origin.Stop()
	t.Run("after", func(t *testing.T) {
		h := open(t, origin, same, fresh(always))
		h.manifest("app", tag("1"), mirror.Stale)
		h.blob("app", image.Config, mirror.Hit)
		h.blob("app", image.Layers[0], mirror.Hit)
	})
}

// A tag that is too old to be served stale is still checked by HEAD: a GET would count as a pull.
func TestTagTooOldToBeStaleIsCheckedByHead(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always), func(u *upstream.Config, _ *cacheConfig) { u.Tags.StaleFor = time.Nanosecond })
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Reset()
	h.manifest("app", tag("1"), mirror.Hit)
	if heads, gets := origin.Count(upstreamtest.Manifest, "HEAD"), origin.Count(upstreamtest.Manifest, "GET"); heads != 1 || gets != 0 {
		t.Errorf("a check cost %d HEAD and %d GET, want 1 and 0", heads, gets)
	}
}

// A tag that was checked while the clock was ahead is not fresh until the clock gets there.
func TestTagCheckedInTheFuture(t *testing.T) {
	origin := upstreamtest.New(t)
	old := origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(never))
	h.manifest("app", tag("1"), mirror.Miss)
	ahead := catalog.Tag{Descriptor: old.Descriptor(), CheckedAt: time.Now().Add(24 * time.Hour)}
	if err := h.names.SetTag(repository(t, "app"), "1", ahead); err != nil {
		t.Fatal(err)
	}
	h.manifest("app", tag("1"), mirror.Hit)
	origin.Reset()
	h.manifest("app", tag("1"), mirror.Hit)
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("a tag that was checked a moment ago cost %d requests", n)
	}
	if known, _ := h.names.Tag(repository(t, "app"), "1"); known.CheckedAt.After(time.Now()) {
		t.Errorf("tag was checked at %v, which is still to come", known.CheckedAt)
	}
}

// When the upstream says that a tag has moved and does not send the manifest, one client waits for it, and not all.
func TestSlowManifestOfAMovedTag(t *testing.T) {
	t.Parallel()
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(always))
	h.manifest("app", tag("1"), mirror.Miss)
	origin.AddImage("app", "1", 2000)
	origin.FailMethod(upstreamtest.Manifest, "GET", -1, upstreamtest.Fault{Hang: true})
	h.manifest("app", tag("1"), mirror.Stale)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	defer time.AfterFunc(time.Second, func() { cancel(errors.New("waited for the check")) }).Stop()
	for range 20 {
		if m, err := h.Manifest(ctx, repository(t, "app"), tag("1")); err != nil || m.Outcome != mirror.Stale {
			t.Fatal(m, err)
		}
	}
}
