package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// aged makes a tag look as if it had been checked some time ago.
func (h *house) aged(repo, tag string, age time.Duration) {
	h.t.Helper()
	known, ok := h.names.Tag(repository(h.t, repo), tag)
	if !ok {
		h.t.Fatalf("tag %s is not known", tag)
	}
	known.CheckedAt = time.Now().Add(-age)
	if err := h.names.SetTag(repository(h.t, repo), tag, known); err != nil {
		h.t.Fatal(err)
	}
}

// eventually waits until something that runs in the background is done.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// limits returns headers that say how much of a limit of 100 in six hours is left.
func limits(left int) http.Header {
	return http.Header{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {fmt.Sprintf("%d;w=21600", left)}}
}

// A thousand pulls of a tag that was checked a moment ago cost nothing; with the end of its window in between, one HEAD.
func TestThousandPullsOfAWarmTag(t *testing.T) {
	for name, age := range map[string]time.Duration{"young": 0, "in the last quarter": 50 * time.Minute, "over": 61 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			image := origin.AddImage("app", "1", 1000)
			h := open(t, origin, fresh(time.Hour))
			h.pull("app", image)
			h.manifest("app", tag("1"), mirror.Miss)
			h.aged("app", "1", age)
			origin.Reset()
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() {
					for range 50 {
						m, err := h.Manifest(t.Context(), repository(t, "app"), tag("1"))
						if err != nil || m.Outcome != mirror.Hit || m.Warning != "" {
							t.Errorf("got %v, %v", m, err)
							return
						}
					}
				})
			}
			group.Wait()
			if n := len(origin.Requests()); n > 1 || n != origin.Count(upstreamtest.Manifest, "HEAD") {
				t.Errorf("1,000 pulls cost %d requests", n)
			}
		})
	}
}

// A tag in use is checked before its window ends, so that nobody waits for the check.
func TestTagIsCheckedAhead(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(time.Hour))
	h.manifest("app", tag("1"), mirror.Miss)
	h.aged("app", "1", 50*time.Minute)
	now := origin.AddImage("app", "1", 2000)
	h.manifest("app", tag("1"), mirror.Hit)
	eventually(t, "the tag moves", func() bool {
		m, err := h.Manifest(t.Context(), repository(t, "app"), tag("1"))
		return err == nil && m.Descriptor.Digest == now.Digest
	})
	h.manifest("app", tag("1"), mirror.Hit)
}

// Checks ahead of time are the first thing that ends when there is trouble.
func TestNoCheckAheadInTrouble(t *testing.T) {
	f := func(name string, want int, prepare func(*house)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1", 1000)
			origin.AddImage("app", "2", 1000)
			h := open(t, origin, fresh(time.Hour))
			h.manifest("app", tag("1"), mirror.Miss)
			prepare(h)
			h.aged("app", "1", 50*time.Minute)
			origin.Reset()
			for range 20 {
				h.manifest("app", tag("1"), mirror.Hit)
				time.Sleep(time.Millisecond)
			}
			if n := len(origin.Requests()); n > want {
				t.Errorf("%d requests, want at most %d", n, want)
			}
		})
	}
	f("the limit shrinks", 0, func(h *house) {
		h.origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Header: limits(49)})
		h.manifest("app", tag("2"), mirror.Miss)
	})
	f("the limit is used up", 0, func(h *house) {
		h.origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: 429})
		_ = h.manifestError("app", tag("2"))
	})
	f("the check fails", 2, func(h *house) { // and is repeated once at once, as every request is
		h.origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: 500})
	})
	f("access is denied", 1, func(h *house) {
		h.origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: 403})
	})
}

// As the rate limit shrinks, tags are believed for longer, and the last of it is not for checks.
func TestWindowsStretch(t *testing.T) {
	f := func(left int, age time.Duration, want mirror.Outcome, requests int) {
		t.Helper()
		t.Run(fmt.Sprintf("%d %% left after %v", left, age), func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.AddImage("app", "1", 1000)
			origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Header: limits(left)})
			h := open(t, origin, fresh(time.Minute))
			h.manifest("app", tag("1"), mirror.Miss)
			h.aged("app", "1", age)
			origin.Reset()
			m := h.manifest("app", tag("1"), want)
			if n := len(origin.Requests()); n != requests {
				t.Errorf("%d requests, want %d", n, requests)
			}
			if (want == mirror.Stale) != strings.Contains(m.Warning, "rate limit") {
				t.Errorf("warning is %q", m.Warning)
			}
		})
	}
	f(90, 90*time.Second, mirror.Hit, 1)
	f(40, 90*time.Second, mirror.Hit, 0)
	f(40, 150*time.Second, mirror.Hit, 1)
	f(10, 7*time.Minute, mirror.Hit, 0)
	f(10, 9*time.Minute, mirror.Hit, 1)
	f(2, 9*time.Minute, mirror.Stale, 0)
	f(0, 100*time.Hour, mirror.Stale, 0)
	f(0, 200*time.Hour, mirror.Hit, 1) // longer than it may be stale
}

// A check that takes long is not waited for, and its answer is there for the next one.
func TestStaleWhileChecking(t *testing.T) {
	t.Parallel()
	origin := upstreamtest.New(t)
	old := origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(time.Hour))
	h.manifest("app", tag("1"), mirror.Miss)
	h.aged("app", "1", 2*time.Hour)
	now := origin.AddImage("app", "1", 2000)
	release := make(chan struct{})
	origin.Hook(func(*http.Request) *upstreamtest.Fault {
		<-release
		return nil
	})
	if m := h.manifest("app", tag("1"), mirror.Stale); m.Descriptor.Digest != old.Digest || m.Warning == "" {
		t.Errorf("got %s with warning %q", m.Descriptor.Digest, m.Warning)
	}
	close(release)
	eventually(t, "the check that nobody waits for ends", func() bool {
		m, err := h.Manifest(t.Context(), repository(t, "app"), tag("1"))
		return err == nil && m.Descriptor.Digest == now.Digest && m.Outcome == mirror.Hit
	})
}

// Whoever is told that a tag has moved waits for the new manifest longer than for the news.
func TestMovedTagIsWorthWaitingFor(t *testing.T) {
	t.Parallel()
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 1000)
	h := open(t, origin, fresh(time.Hour))
	h.manifest("app", tag("1"), mirror.Miss)
	h.aged("app", "1", 2*time.Hour)
	now := origin.AddImage("app", "1", 2000)
	origin.FailMethod(upstreamtest.Manifest, "GET", 1, upstreamtest.Fault{Delay: 1200 * time.Millisecond})
	if m := h.manifest("app", tag("1"), mirror.Miss); m.Descriptor.Digest != now.Digest {
		t.Errorf("got %s, want %s", m.Descriptor.Digest, now.Digest)
	}
}

// Once a registry has not answered in time, nobody waits for its other tags either.
func TestOneClientWaitsForASilentRegistry(t *testing.T) {
	t.Parallel()
	const tags = 40
	origin := upstreamtest.New(t)
	h := open(t, origin, fresh(always))
	for i := range tags {
		origin.AddImage("app", fmt.Sprint(i), 10)
		h.manifest("app", tag(fmt.Sprint(i)), mirror.Miss)
	}
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	h.manifest("app", tag("0"), mirror.Stale)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	// One second for each would be twice as long.
	defer time.AfterFunc(tags/2*time.Second, func() { cancel(errors.New("waited for the checks")) }).Stop()
	for i := range tags {
		if m, err := h.Manifest(ctx, repository(t, "app"), tag(fmt.Sprint(i))); err != nil || m.Outcome != mirror.Stale {
			t.Fatal(m, err)
		}
	}
}

// What the upstream refuses is not asked for again at once.
func TestRefusalsAreRemembered(t *testing.T) {
	f := func(name string, status int, want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			image := origin.AddImage("app", "1", 1000)
			fault := upstreamtest.Fault{Status: status}
			for _, kind := range []upstreamtest.Kind{upstreamtest.Manifest, upstreamtest.Blob, upstreamtest.Tags} {
				origin.Fail(kind, -1, fault)
			}
			h := open(t, origin)
			repo := repository(t, "app")
			for range 5 {
				_, byTag := h.Manifest(t.Context(), repo, tag("1"))
				_, byDigest := h.Manifest(t.Context(), repo, digest(image.Digest))
				_, blob := h.Blob(t.Context(), repo, image.Config.Digest)
				_, stat := h.StatBlob(t.Context(), repo, image.Config.Digest)
				_, list := h.Tags(t.Context(), repo, 10, "")
				for i, err := range []error{byTag, byDigest, blob, stat, list} {
					if !errors.Is(err, want) {
						t.Errorf("question %d: got %v, want %v", i, err, want)
					}
				}
			}
			if n := len(origin.Requests()) - origin.Count(upstreamtest.Ping, ""); n > 4 { // a 401 without a challenge costs a ping
				t.Errorf("four questions, asked again and again, cost %d requests", n)
			}
		})
	}
	f("403", http.StatusForbidden, upstream.ErrDenied)
	f("404", http.StatusNotFound, upstream.ErrNotFound)
	f("401", http.StatusUnauthorized, upstream.ErrUnknownRepository)
	f("429", http.StatusTooManyRequests, upstream.ErrTooManyRequests)
}

// A client decides how long the query of a list is, and how many there are.
func TestRefusedListsStaySmall(t *testing.T) {
	f := func(artifactType string, want int) {
		t.Helper()
		origin := upstreamtest.New(t)
		origin.Fail(upstreamtest.Referrers, -1, upstreamtest.Fault{Status: http.StatusForbidden})
		h := open(t, origin)
		for range 3 {
			_, err := h.Referrers(t.Context(), repository(t, "app"), oci.DigestOf(oci.SHA256, nil), artifactType, "")
			if !errors.Is(err, upstream.ErrDenied) {
				t.Errorf("got %v", err)
			}
		}
		if n := origin.Count(upstreamtest.Referrers, ""); n != want {
			t.Errorf("a query of %d bytes: asked %d times, want %d", len(artifactType), n, want)
		}
	}
	f("application/spdx+json", 1)
	f(strings.Repeat("x", 20_000), 3)
}

func TestRuleForMissing(t *testing.T) {
	origin := upstreamtest.New(t)
	h := open(t, origin, func(u *upstream.Config, _ *cacheConfig) {
		rule := upstream.DefaultTagRule()
		rule.Tags, rule.MissingFor = []string{"v*"}, 0
		u.Tags.Rules = []upstream.TagRule{rule}
	})
	_, _ = h.manifestError("app", tag("v1")), h.manifestError("app", tag("latest"))
	image := origin.AddImage("app", "v1", 10)
	origin.Tag("app", "latest", image.Digest)
	h.manifest("app", tag("v1"), mirror.Miss)
	if err := h.manifestError("app", tag("latest")); !errors.Is(err, upstream.ErrNotFound) {
		t.Error(err)
	}
}

// offline keeps the upstream from being asked.
func offline(u *upstream.Config, _ *cacheConfig) { u.Offline = true }

func TestOffline(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	child := origin.AddImage("app", "", 500)
	index := origin.AddIndex("app", "multi", child)
	dir := t.TempDir()
	same := func(_ *upstream.Config, c *cacheConfig) { c.Dir = dir }
	t.Run("before", func(t *testing.T) {
		h := open(t, origin, same)
		h.pull("app", image)
		h.manifest("app", tag("1"), mirror.Miss)
		h.manifest("app", tag("multi"), mirror.Miss)
		if _, err := h.Tags(t.Context(), repository(t, "app"), 10, ""); err != nil {
			t.Error(err)
		}
		h.aged("app", "1", 10_000*time.Hour)
	})
	origin.Reset()
	t.Run("after", func(t *testing.T) {
		h := open(t, origin, same, offline)
		repo := repository(t, "app")
		if m := h.manifest("app", tag("1"), mirror.Stale); !strings.Contains(m.Warning, "offline") {
			t.Errorf("warning is %q", m.Warning)
		}
		h.manifest("app", tag("multi"), mirror.Stale)
		h.manifest("app", digest(image.Digest), mirror.Hit)
		h.manifest("app", digest(index.Digest), mirror.Hit)
		h.blob("app", image.Config, mirror.Hit)
		h.blob("app", image.Layers[0], mirror.Hit)
		if list, err := h.Tags(t.Context(), repo, 10, ""); err != nil || len(list.Tags) != 2 || !strings.Contains(list.Warning, "offline") && list.Warning != "" {
			t.Errorf("got %+v, %v", list, err)
		}
		absent := func(what string, err error, known bool) {
			t.Helper()
			if !errors.Is(err, upstream.ErrOffline) || errors.Is(err, mirror.ErrNeverHeld) == known {
				t.Errorf("%s: got %v", what, err)
			}
		}
		_, err := h.Blob(t.Context(), repo, child.Config.Digest)
		absent("a blob that nobody has named", err, false)
		_, err = h.StatBlob(t.Context(), repo, child.Config.Digest)
		absent("its size", err, false)
		absent("a manifest that an index names", h.manifestError("app", digest(child.Digest)), true)
		absent("a manifest that nobody has named", h.manifestError("other", digest(child.Digest)), false)
		absent("a tag that was never pulled", h.manifestError("app", tag("2")), false)
		_, err = h.Tags(t.Context(), repository(t, "other"), 10, "")
		absent("a list", err, true)
		_, err = h.Referrers(t.Context(), repo, oci.DigestOf(oci.SHA256, nil), "", "")
		absent("referrers", err, true)
	})
	if n := len(origin.Requests()); n != 0 {
		t.Errorf("%d requests went to a registry that is offline", n)
	}
}
