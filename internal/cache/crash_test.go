package cache_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

const (
	// crashDir is the environment variable that makes the test binary the child of the crash test, in that directory.
	crashDir = "MIRROR_CACHE_CRASH_DIR"
	// crashFill is another one, which makes the child fill one large content in that directory.
	crashFill = "MIRROR_CACHE_CRASH_FILL"
	// kills is how often the child is killed, fillKills how often the one that fills.
	kills, fillKills = 24, 12
)

// crashConfig is so small that the child evicts all the time.
func crashConfig(dir string) cache.Config {
	return cache.Config{Dir: dir, MaxSize: 3 * units.MiB, Memory: cache.MemoryConfig{MaxSize: units.MiB, MaxBlob: 64 * units.KiB}}
}

// TestCrash kills a process again and again while it fills, stores, evicts and removes. Each time the next owner of the
// directory finds everything consistent: content, records, room, and partial files.
func TestCrash(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	cfg := crashConfig(t.TempDir())
	survived := false
	for range kills {
		kill(t, crashDir+"="+cfg.Dir, 1+random.IntN(60))
		c := cachetest.Unchecked(t, cfg)
		if err := c.Check(t.Context()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		b, d := content(5000) // stored once, then it is one of the contents that survive or are evicted
		wantWhole(t, c, newOrigin(b).request(d), b)
		_, large := content(childSize(3))
		_, ok := c.Stat(large)
		survived = survived || ok
		cachetest.Settle(c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !survived {
		t.Errorf("seed %d: nothing of what the child stored has survived any of %d kills", seed, kills)
	}
}

// kill starts the child that the environment variable makes, lets it take some steps and kills it.
func kill(t *testing.T, variable string, steps int) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), variable)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, bufio.NewReaderSize(out, 16), int64(steps)); err != nil {
		t.Errorf("the child ended by itself after %d of %d steps: %v", n, steps, err)
	}
	_ = child.Process.Kill()
	_ = child.Wait() // killed
}

// childSize is the size of the child's content number i: mostly small, some above the limit of what is small.
func childSize(i int) int {
	if i%5 == 3 {
		return smallLimit + 1000*i
	}
	return 100 + 7777*i
}

// crashChild uses the cache from several goroutines and writes a byte for each step, until it is killed.
func crashChild(dir string) {
	c, err := cache.Open(crashConfig(dir), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
					return // the parent is gone
				}
				crashStep(c, rand.IntN(20), rand.IntN(9))
			}
		})
	}
	wg.Wait()
}

// crashStep does one thing with content number i.
func crashStep(c *cache.Cache, i, what int) {
	b, d := content(childSize(i))
	switch what {
	case 0:
		c.Remove(d)
	case 1, 2:
		_ = c.Put(d, b) // there may be no room
	case 3:
		if len(b) < smallLimit { // what is left pinned leaves room for the others
			_ = errors.Join(c.Pin(d), c.Unpin(d)) // nothing fails here
		}
	default:
		o := newOrigin(b)
		o.chunk = 50_000
		blob, _, err := c.Fill(o.request(d))
		if err != nil {
			return
		}
		defer blob.Close()
		if blob.Ready(context.Background()) == nil {
			_, _ = blob.WriteRange(io.Discard, 0, -1) // no room is possible again
		}
	}
}
