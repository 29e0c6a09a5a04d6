package cache_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// unfinished closes a cache in the middle of a fill of n bytes whose source keeps some of them back. It returns the origin,
// which has them all afterwards.
func unfinished(t *testing.T, cfg cache.Config, n int, script func(*origin), gaps ...cache.Span) (*origin, oci.Digest) {
	t.Helper()
	b, d := content(n)
	o := newOrigin(b)
	if script != nil {
		script(o)
	}
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Unchecked(t, cfg)
		var readers []*reading
		for _, gap := range gaps {
			open := o.close(int(gap.Start), int(gap.End))
			defer open()
		}
		readers = append(readers, start(fill(t, c, o.request(d)), b, 0, -1))
		synctest.Wait()
		for _, gap := range gaps[:len(gaps)-1] { // readers behind all gaps but the last
			readers = append(readers, start(fill(t, c, o.request(d)), b, gap.End, -1))
			synctest.Wait()
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		for _, r := range readers {
			r.short(t, cache.ErrClosed)
		}
	})
	o.set(func(o *origin) { o.gates = nil })
	return o, d
}

// partialFiles returns the names of the files of unfinished content.
func partialFiles(t *testing.T, cfg cache.Config) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(cfg.Dir, "partial", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestFillContinuesAfterRestart: what a fill has got when the cache is closed is not fetched again by the next run, however
// it is spread over the content, nor by one after that.
func TestFillContinuesAfterRestart(t *testing.T) {
	f := func(name string, script func(*origin), extra int64, gaps ...cache.Span) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			o, d := unfinished(t, cfg, 6*mib, script, gaps...)
			before := o.deliveredBytes()
			for range 2 { // a run that does nothing loses nothing
				c := cachetest.Unchecked(t, cfg)
				if err := errors.Join(c.Check(t.Context()), c.Close()); err != nil {
					t.Error(err)
				}
			}
			c := cachetest.Open(t, cfg)
			if _, ok := c.Stat(d); ok {
				t.Error("a part is taken for complete content")
			}
			wantWhole(t, c, o.request(d), o.content)
			cachetest.Settle(c)
			o.wantOnce(t, extra)
			if after := o.deliveredBytes(); after == before || before == 0 {
				t.Errorf("%d bytes were delivered before the restart, %d after it", before, after-before)
			}
			if names := partialFiles(t, cfg); len(names) > 0 {
				t.Errorf("these are left: %v", names)
			}
		})
	}
	f("from the start", nil, 0, cache.Span{Start: 2 * mib, End: 6 * mib})
	f("of unknown size", func(o *origin) { o.noSize = true }, 0, cache.Span{Start: 2 * mib, End: 6 * mib})
	f("with gaps", nil, inFlight, cache.Span{Start: 1 * mib, End: 2 * mib}, cache.Span{Start: 3 * mib, End: 4 * mib}, cache.Span{Start: 5 * mib, End: 6 * mib})
	f("nothing at the start", nil, inFlight, cache.Span{Start: 0, End: 3 * mib}, cache.Span{Start: 5 * mib, End: 6 * mib})
	f("source without ranges", func(o *origin) { o.noRanges = true }, 2*mib, cache.Span{Start: 2 * mib, End: 6 * mib})
}

// TestNotKept: small content is not worth a journal, and what cannot be continued is not kept.
func TestNotKept(t *testing.T) {
	f := func(name string, n int, script func(*origin)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			o, d := unfinished(t, cfg, n, script, cache.Span{Start: int64(n) - 1000, End: int64(n)})
			if names := partialFiles(t, cfg); len(names) > 0 {
				t.Errorf("these are kept: %v", names)
			}
			wantWhole(t, cachetest.Open(t, cfg), o.request(d), o.content)
		})
	}
	f("small", smallLimit, nil)
	f("neither ranges nor a size", 3*mib, func(o *origin) {
		o.noRanges, o.noSize = true, true
		o.cuts = []int64{mib} // so that this is known
	})
}

// TestRestoredParts hold room, and no descriptor before a fill takes them.
func TestRestoredParts(t *testing.T) {
	cfg := cachetest.Config(t)
	cfg.MaxSize = 8 * units.MiB
	o, d := unfinished(t, cfg, 6*mib, nil, cache.Span{Start: 4 * mib, End: 6 * mib})
	c := cachetest.Open(t, cfg)
	if open := openPartials(t); open > 0 {
		t.Errorf("%d partial files are open", open)
	}
	b, other := content(5 * mib) // needs more than is left
	wantWhole(t, c, newOrigin(b).request(other), b)
	cachetest.Settle(c)
	if names := partialFiles(t, cfg); len(names) > 0 {
		t.Errorf("there was no room for these: %v", names)
	}
	before := o.deliveredBytes()
	wantWhole(t, c, o.request(d), o.content)
	if again := o.deliveredBytes() - before; again != 6*mib {
		t.Errorf("%d bytes were fetched after the part had been dropped", again)
	}
}

// openPartials counts the open partial files of the process.
func openPartials(t *testing.T) (n int) {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if path, err := os.Readlink(name); err == nil && strings.Contains(path, "/partial/sha256-") {
			n++
		}
	}
	return n
}

// TestUselessJournals: a part whose journal does not go with it is swept, journal and all, and the content fetched anew.
func TestUselessJournals(t *testing.T) {
	f := func(name string, damage func(part, journal string) error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := cachetest.Config(t)
			o, d := unfinished(t, cfg, 3*mib, nil, cache.Span{Start: 2 * mib, End: 3 * mib})
			names := partialFiles(t, cfg)
			if len(names) != 2 || names[1] != names[0]+".journal" {
				t.Fatalf("got %v, want a part and its journal", names)
			}
			if err := damage(names[0], names[1]); err != nil {
				t.Fatal(err)
			}
			c := cachetest.Open(t, cfg)
			if names := partialFiles(t, cfg); len(names) > 0 {
				t.Errorf("these are left: %v", names)
			}
			wantWhole(t, c, o.request(d), o.content)
			if got := o.deliveredBytes(); got != 5*mib {
				t.Errorf("%d bytes were delivered, want all anew", got)
			}
		})
	}
	f("no journal", func(_, journal string) error { return os.Remove(journal) })
	f("no part", func(part, _ string) error { return os.Remove(part) })
	f("torn", func(_, journal string) error { return os.Truncate(journal, 60) })
	f("empty", func(_, journal string) error { return os.Truncate(journal, 0) })
	f("not renamed", func(_, journal string) error { return os.Rename(journal, journal+".new") })
	f("short part", func(part, _ string) error { return os.Truncate(part, 2*mib-1) })
	f("long part", func(part, _ string) error { return os.Truncate(part, 3*mib+1) })
	f("part of something else", func(part, journal string) error {
		_, d := content(7)
		other := filepath.Join(filepath.Dir(part), "sha256-"+d.Encoded()+".1")
		return errors.Join(os.Rename(part, other), os.Rename(journal, other+".journal"))
	})
	f("part is a directory", func(part, _ string) error { return errors.Join(os.Remove(part), os.Mkdir(part, 0o700)) })
	f("too old", func(_, journal string) error {
		old := time.Now().Add(-2 * time.Hour)
		return os.Chtimes(journal, old, old)
	})
}

// TestPartIsGone: a part whose file disappears between start and use costs a download, and no error.
func TestPartIsGone(t *testing.T) {
	cfg := cachetest.Config(t)
	o, d := unfinished(t, cfg, 3*mib, nil, cache.Span{Start: 2 * mib, End: 3 * mib})
	c := cachetest.Open(t, cfg)
	if err := os.Remove(partialFiles(t, cfg)[0]); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, c, o.request(d), o.content)
}

// TestWrongPart: bytes that were wrong before the restart show at the end. Then nothing of them is kept, and the next fill
// is right.
func TestWrongPart(t *testing.T) {
	cfg := cachetest.Config(t)
	o, d := unfinished(t, cfg, 3*mib, func(o *origin) { o.wrong = []int64{5} }, cache.Span{Start: 2 * mib, End: 3 * mib})
	c := cachetest.Open(t, cfg)
	o.set(func(o *origin) { o.wrong = nil })
	if got, err := read(t.Context(), fill(t, c, o.request(d)), 0, -1); !errors.Is(err, cache.ErrWrongContent) || len(got) >= 3*mib {
		t.Errorf("got %d bytes and %v, want a short body and ErrWrongContent", len(got), err)
	}
	cachetest.Settle(c)
	if names := partialFiles(t, cfg); len(names) > 0 {
		t.Errorf("these are left: %v", names)
	}
	wantWhole(t, c, o.request(d), o.content)
}

// TestPartOfAnotherSize from an earlier run makes way for a new one, which gets a name of its own.
func TestPartOfAnotherSize(t *testing.T) {
	cfg := cachetest.Config(t)
	o, d := unfinished(t, cfg, 3*mib, nil, cache.Span{Start: 2 * mib, End: 3 * mib})
	old := partialFiles(t, cfg)[0]
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Unchecked(t, cfg)
		open := o.close(0, 3*mib)
		defer open()
		r := o.request(d)
		r.Size = 3*mib + 1
		blob := fill(t, c, r)
		defer blob.Close()
		synctest.Wait()
		if names := partialFiles(t, cfg); len(names) > 1 || len(names) == 1 && names[0] == old {
			t.Errorf("got %v, want one file with another name than %s", names, old)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestPace: a running fill has a journal soon after something has come, not more often than looked, and none once it is
// complete. Nobody waits for it.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := cachetest.Config(t)
		c := cachetest.Open(t, cfg)
		b, d := content(4 * mib)
		o := newOrigin(b)
		gates := []func(){o.close(mib, 2*mib), o.close(2*mib, 4*mib)}
		reader := start(fill(t, c, o.request(d)), b, 0, -1)
		for i, wait := range []time.Duration{7 * time.Second, 7 * time.Second} {
			synctest.Wait()
			if got, _ := cache.Claimed(cfg.Dir); got != int64(i)*mib {
				t.Errorf("%d bytes are claimed at once, want %d", got, i*mib)
			}
			time.Sleep(wait)
			synctest.Wait()
			if got, _ := cache.Claimed(cfg.Dir); got != int64(i+1)*mib {
				t.Errorf("%d bytes are claimed, want %d", got, (i+1)*mib)
			}
			gates[i]()
		}
		reader.complete(t)
		cachetest.Settle(c)
		if names := partialFiles(t, cfg); len(names) > 0 {
			t.Errorf("these are left: %v", names)
		}
	})
}

// TestJournalFails: a fill whose journals cannot be written, or whose file could not be synced once, delivers all the same.
// Content that may have been lost on the way to the disk is not stored.
func TestJournalFails(t *testing.T) {
	f := func(operation string, wantStored bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := cachetest.Open(t, cachetest.Config(t))
			c.SetPace(time.Second)
			failed := false
			c.SetFault(func(op string) error {
				if op != operation || failed {
					return nil
				}
				failed = true
				return syscall.EIO
			})
			b, d := content(4 * mib)
			o := newOrigin(b)
			open := o.close(2*mib, 4*mib)
			reader := start(fill(t, c, o.request(d)), b, 0, -1)
			time.Sleep(3 * time.Second)
			open()
			reader.complete(t)
			cachetest.Settle(c)
			if _, stored := c.Stat(d); stored != wantStored || !failed {
				t.Errorf("%s failed: %v, then stored: %v, want %v", operation, failed, stored, wantStored)
			}
		})
	}
	f("journal", true)
	f("sync", false)
}

// TestFaultsAtClose lets file operations fail while a cache is closed in the middle of a fill. The next run has the part or
// has swept it; the fill ends right either way.
func TestFaultsAtClose(t *testing.T) {
	for _, operation := range []string{"journal", "sync", "unlink", "write"} {
		for _, earlier := range []bool{false, true} {
			cfg := cachetest.Config(t)
			b, d := content(4 * mib)
			o := newOrigin(b)
			synctest.Test(t, func(t *testing.T) {
				c := cachetest.Unchecked(t, cfg)
				c.SetPace(time.Second)
				closing := false
				c.SetFault(func(op string) error {
					if closing && op == operation {
						return syscall.EIO
					}
					return nil
				})
				open := o.close(2*mib, 4*mib)
				defer open()
				reader := start(fill(t, c, o.request(d)), b, 0, -1)
				synctest.Wait()
				if earlier {
					time.Sleep(2 * time.Second)
					synctest.Wait()
				}
				closing = true
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				reader.short(t, cache.ErrClosed)
			})
			o.set(func(o *origin) { o.gates = nil })
			c := cachetest.Open(t, cfg)
			wantWhole(t, c, o.request(d), b)
			cachetest.Settle(c)
			o.wantOnce(t, 2*mib)
		}
	}
}

// TestNobodyWaitsForAJournal: while a sync for a journal hangs, readers get their error when the source fails, the next fill
// takes the part, and its readers get everything.
func TestNobodyWaitsForAJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cachetest.Open(t, cachetest.Config(t))
		c.SetPace(time.Second)
		release, syncs := make(chan struct{}), 0
		c.SetFault(func(operation string) error {
			if operation != "sync" {
				return nil
			}
			if syncs++; syncs == 1 {
				<-release
			}
			return nil
		})
		b, d := content(4 * mib)
		o := newOrigin(b)
		o.cuts = []int64{2 * mib}
		open := o.close(2*mib, 4*mib)
		failing := start(fill(t, c, o.request(d)), b, 0, -1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if syncs != 1 {
			t.Fatalf("%d syncs have begun, want the one that hangs", syncs)
		}
		o.set(func(o *origin) { o.down = errDown })
		open()
		failing.short(t, errDown)
		o.set(func(o *origin) { o.down = nil })
		start(fill(t, c, o.request(d)), b, 0, -1).complete(t)
		close(release)
		cachetest.Settle(c)
		o.wantOnce(t, 0)
		if _, stored := c.Stat(d); !stored {
			t.Error("the content is not stored")
		}
	})
}
