package cache_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"mirror/internal/cache/cachetest"
)

// TestUnclaimedBytesAreGivenBack: what a crash leaves in a partial file beyond its journal, between what is claimed and
// behind it, takes no room on the disk after the next start. What is claimed is continued.
func TestUnclaimedBytesAreGivenBack(t *testing.T) {
	const n = 8 * mib
	cfg := cachetest.Config(t)
	cfg.Dir = memoryDir(t)
	b, d := content(n)
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(b)
		c := cachetest.Unchecked(t, cfg)
		open := o.close(mib, 2*mib)
		defer open()
		front := start(fill(t, c, o.request(d)), b, 0, -1)
		synctest.Wait()
		start(fill(t, c, o.request(d)), b, 5*mib, mib).complete(t)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-front.done
	})
	held, err := usage(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, cfg.Dir, 2*mib, 3*mib)
	spoil(t, cfg.Dir, 7*mib, mib)
	c := cachetest.Open(t, cfg)
	if now, err := usage(cfg.Dir); err != nil || now > held {
		t.Errorf("%d bytes are on the disk, %v, want the %d from before the crash", now, err, held)
	}
	wantWhole(t, c, newOrigin(b).request(d), b)
}

// spoil writes n wrong bytes into the one partial file.
func spoil(t *testing.T, dir string, at int64, n int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "partial", "*.[0-9]"))
	if err != nil || len(names) != 1 {
		t.Fatalf("partial files %q, %v, want one", names, err)
	}
	file, err := os.OpenFile(names[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(make([]byte, n), at); err != nil {
		t.Fatal(err)
	}
}
