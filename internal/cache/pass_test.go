package cache_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// passed reads content that is passed through.
func passed(t *testing.T, c *cache.Cache, r cache.Request, off, n int64) ([]byte, error) {
	t.Helper()
	blob := c.Pass(r)
	defer blob.Close()
	if blob.Tier() != cache.TierSource {
		t.Errorf("tier %d, want source", blob.Tier())
	}
	return read(t.Context(), blob, off, n)
}

// TestPass passes content of all sizes through, whole and in part, and stores nothing.
func TestPass(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	for _, n := range []int{0, 1, 1000, holdBack, holdBack + 1, smallLimit, smallLimit + 1, 3 * mib} {
		for _, plain := range []bool{false, true} {
			b, d := content(n)
			o := newOrigin(b)
			o.noSize, o.noRanges = plain, plain
			r := o.request(d)
			f := func(off, n int64, want []byte) {
				t.Helper()
				got, err := passed(t, c, r, off, n)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, plain %v, range %d %d: got %d of %d, error %v", len(b), plain, off, n, len(got), len(want), err)
				}
			}
			f(0, -1, b)
			if n > 0 {
				f(int64(n-1), -1, b[n-1:])
				f(int64(n/2), int64(n-n/2), b[n/2:])
				f(0, int64(n/2), b[:n/2])
			}
			if o.open != 0 {
				t.Errorf("%d bodies were not closed", o.open)
			}
			if _, err := c.Open(d); !errors.Is(err, cache.ErrNotFound) {
				t.Errorf("open of passed content: %v", err)
			}
		}
	}
}

// TestPassWithoutReady: who reads without waiting for a status gets the same promises, and may read again.
func TestPassWithoutReady(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	for _, n := range []int{1000, 2 * mib} {
		b, d := content(n)
		blob := c.Pass(newOrigin(b).request(d))
		for range 2 {
			var got bytes.Buffer
			if _, err := blob.WriteRange(&got, 0, -1); err != nil || !bytes.Equal(got.Bytes(), b) {
				t.Errorf("got %d of %d bytes, error %v", got.Len(), n, err)
			}
		}
		if err := errors.Join(blob.Close(), blob.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestPassWrongBytes: small content is refused before the first byte, larger content ends short, and a reader that resumes
// in the middle does not complete a wrong body either.
func TestPassWrongBytes(t *testing.T) {
	for _, n := range []int64{1000, 3 * mib} {
		for _, noSize := range []bool{false, true} {
			for _, at := range []int64{0, n / 2, n - 1} {
				c := cachetest.Open(t, cachetest.Config(t))
				b, d := content(int(n))
				o := newOrigin(b)
				o.wrong, o.noSize = []int64{at}, noSize
				r := o.request(d)
				got, err := passed(t, c, r, 0, -1)
				if !errors.Is(err, cache.ErrWrongContent) || int64(len(got)) >= n || n <= smallLimit && len(got) > 0 {
					t.Errorf("wrong byte %d of %d: got %d bytes and %v", at, n, len(got), err)
				}
				off := int64(len(got))
				if rest, err := passed(t, c, r, off, -1); !errors.Is(err, cache.ErrWrongContent) || off+int64(len(rest)) >= n {
					t.Errorf("wrong byte %d of %d: resumed at %d, got %d bytes and %v", at, n, off, len(rest), err)
				}
				if o.open != 0 {
					t.Errorf("%d bodies were not closed", o.open)
				}
			}
		}
	}
}

// TestPassHoldsBack: the last block waits for the verdict.
func TestPassHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		const n = 2 * mib
		b, d := content(n)
		o := newOrigin(b)
		open := o.close(n-1, n)
		reader := start(c.Pass(o.request(d)), b, 0, -1)
		synctest.Wait()
		if got := reader.count(); got < n-3*holdBack || got > n-holdBack {
			t.Errorf("%d bytes went out before the last one came, want about %d", got, n-holdBack)
		}
		open()
		reader.complete(t)
	})
}

// TestPassResumes: a source that breaks off or stalls is asked again for what is missing.
func TestPassResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		o.cuts, o.stalls = []int64{1, mib, mib + 1, 2*mib - 1}, []int64{mib / 2}
		begin := time.Now()
		start(c.Pass(o.request(d)), b, 0, -1).complete(t)
		if took := time.Since(begin); took > 12*time.Second {
			t.Errorf("it took %v", took)
		}
		o.wantOnce(t, 0)
	})
}

// TestPassFails: the source's error comes through, and the end of the client's patience.
func TestPassFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		b, d := content(2 * mib)
		o := newOrigin(b)
		o.down = errDown
		if _, err := passed(t, c, o.request(d), 0, -1); !errors.Is(err, errDown) {
			t.Errorf("got %v, want the error of the source", err)
		}
		o.down = nil
		o.cuts = []int64{mib}
		r := o.request(d)
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			if want.Start > 0 {
				return nil, errDown
			}
			return o.from(ctx, want)
		}
		if got, err := passed(t, c, r, 0, -1); !errors.Is(err, errDown) || len(got) >= mib {
			t.Errorf("got %d bytes and %v, want less than came and the error of the source", len(got), err)
		}
		closed := cachetest.Unchecked(t, cachetest.Config(t))
		if err := closed.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := passed(t, closed, o.request(d), 0, -1); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("after close: got %v, want ErrClosed", err)
		}
		small, d := content(1000)
		o = newOrigin(small)
		open := o.close(0, 1000)
		defer open()
		ctx, cancel := contextWithTimeout(t, time.Second)
		defer cancel()
		blob := c.Pass(o.request(d))
		defer blob.Close()
		if err := blob.Ready(ctx); !errors.Is(err, errGaveUp) {
			t.Errorf("got %v, want the cause of the context", err)
		}
	})
}

// TestPassWrongAnnouncement: another size, or a start behind the wanted one, is refused.
func TestPassWrongAnnouncement(t *testing.T) {
	c := cachetest.Open(t, cachetest.Config(t))
	b, d := content(2 * mib)
	f := func(change func(*cache.Stream), off int64) {
		t.Helper()
		o := newOrigin(b)
		r := o.request(d)
		r.Size = 2 * mib
		r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
			s, err := o.from(ctx, want)
			change(s)
			return s, err
		}
		if got, err := passed(t, c, r, off, 100); len(got) > 0 || !errors.Is(err, cache.ErrWrongContent) {
			t.Errorf("got %d bytes and %v, want ErrWrongContent", len(got), err)
		}
		if o.open != 0 {
			t.Errorf("%d bodies were not closed", o.open)
		}
	}
	f(func(s *cache.Stream) { s.Size++ }, 0)
	f(func(s *cache.Stream) { s.Start = 5 }, 0)
	f(func(s *cache.Stream) {
		if s.Start > 0 {
			s.Start++
		}
	}, 1000)
}
