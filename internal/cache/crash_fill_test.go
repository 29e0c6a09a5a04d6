package cache_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

const (
	// crashFill is the environment variable that makes the test binary fill one large content in that directory.
	crashFill = "MIRROR_CACHE_CRASH_FILL"
	// fillKills is how often that child is killed.
	fillKills = 12
	// fillSize is the size of what the child fills, step how much its source delivers at a time.
	fillSize, step = 16 * mib, 256 * kib
	// fillReaders is how many readers the child has, each at its own place.
	fillReaders = 3
)

// TestCrashDuringFill kills a process in the middle of a long fill, several times in a row. Each run goes on where the
// journal of the one before ended, and a last one completes the content without fetching anything again that was claimed.
func TestCrashDuringFill(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	for done := 0; done < fillKills; {
		cfg := cachetest.Config(t)
		cfg.Dir = memoryDir(t)
		for range 1 + random.IntN(4) {
			before, _ := cache.Claimed(cfg.Dir)
			steps := 1 + random.IntN(14)
			kill(t, crashFill+"="+cfg.Dir, steps)
			done++
			claimed, _ := cache.Claimed(cfg.Dir)
			if least := before + int64(steps-1)*step; claimed < least {
				t.Errorf("%d bytes are claimed after %d steps from %d on, want at least %d", claimed, steps, before, least)
			}
		}
		continueKilled(t, cfg)
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

// continueKilled completes what killed children have begun.
func continueKilled(t *testing.T, cfg cache.Config) {
	t.Helper()
	claimed, journals := cache.Claimed(cfg.Dir)
	c := cachetest.Open(t, cfg)
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	b, d := content(fillSize)
	o := newOrigin(b)
	wantWhole(t, c, o.request(d), b)
	cachetest.Settle(c)
	if got := o.deliveredBytes(); got != fillSize-claimed {
		t.Errorf("%d bytes were fetched with %d of %d claimed in %d journals", got, claimed, fillSize, journals)
	}
}

// fillingChild fills one content until it is killed, from a source that waits for a journal of what it has delivered before
// it writes a byte, which is a step, and delivers more. So a kill after n steps finds n-1 of them in the journal.
func fillingChild(dir string) {
	c, err := cache.Open(cache.Config{Dir: dir, MaxSize: units.GiB}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		panic(err)
	}
	c.SetPace(time.Millisecond)
	b, d := content(fillSize)
	o := newOrigin(b)
	o.chunk = step
	s := &stepper{dir: dir}
	s.delivered, _ = cache.Claimed(dir)
	r := o.request(d)
	r.Size = fillSize
	r.From = func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		stream, err := o.from(ctx, want)
		if err == nil {
			stream.Body = steppedBody{stream.Body, s}
		}
		return stream, err
	}
	var readers []*reading
	for i := range fillReaders {
		blob, _, err := c.Fill(r)
		if err != nil {
			panic(err)
		}
		readers = append(readers, start(blob, b, int64(i)*(fillSize/fillReaders/step*step), -1))
	}
	for _, r := range readers {
		<-r.done
	}
	panic("the fill is over, and nobody has killed the child")
}

// stepper lets all bodies of a child take their steps one after the other.
type stepper struct {
	dir       string
	mu        sync.Mutex
	delivered int64
}

// steppedBody delivers one step at a time.
type steppedBody struct {
	io.ReadCloser
	stepper *stepper
}

func (b steppedBody) Read(p []byte) (int, error) {
	s := b.stepper
	s.mu.Lock()
	defer s.mu.Unlock()
	for claimed, _ := cache.Claimed(s.dir); claimed < s.delivered; claimed, _ = cache.Claimed(s.dir) {
		time.Sleep(time.Millisecond)
	}
	if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
		return 0, err // the parent is gone
	}
	n, err := b.ReadCloser.Read(p)
	s.delivered += int64(n)
	return n, err
}
