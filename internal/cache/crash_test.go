package cache_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/oci"
)

const (
	// crashKills is the environment variable that says how often children are killed at random moments, instead of
	// usualKills. Each file operation adds operationKills, and TestCrashDuringFill fillKills.
	crashKills     = "MIRROR_CACHE_CRASH_KILLS"
	usualKills     = 160
	operationKills = 8
	// crashRows is how many directories have a row of crashes at the same time.
	crashRows = 2
)

// TestCrash kills a process again and again while it fills, stores, evicts, heals, removes, starts and stops: at random
// moments, and at each kind of file operation. Each time the next owner of the directory finds everything consistent,
// and nothing lost that was complete.
func TestCrash(t *testing.T) {
	before := descriptors(t)
	kills := randomKills(t)
	plans := make(chan string, kills+operationKills*len(cache.Operations)) // what a child is to be killed at; nothing means a random moment
	for range kills {
		plans <- ""
	}
	for _, op := range cache.Operations {
		for turn := range operationKills {
			plans <- fmt.Sprint(op, " ", 1+turn*turn)
		}
	}
	close(plans)
	var survivors atomic.Int64
	t.Run("rows", func(t *testing.T) {
		for range crashRows {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				survivors.Add(crashRow(t, plans))
			})
		}
	})
	if survivors.Load() == 0 {
		t.Error("nothing of what the children stored has survived any of the kills")
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

func randomKills(t *testing.T) int {
	text := os.Getenv(crashKills)
	if text == "" {
		return usualKills
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", crashKills, err)
	}
	return n
}

// crashRow kills one child after another in the same directory. It returns how many contents were complete before a kill
// and there after it.
func crashRow(t *testing.T, plans <-chan string) (survivors int64) {
	seed := rand.Uint64()
	r := &crashed{t: t, random: rand.New(rand.NewPCG(seed, 0)), cfg: crashConfig(memoryDir(t)), held: make(map[int]bool)}
	for plan := range plans {
		if t.Failed() {
			t.Logf("seed %d, last plan %q", seed, plan)
			return survivors
		}
		r.crash(plan)
		if r.random.IntN(4) > 0 { // else the next child starts with what this one has left
			survivors += int64(len(r.held))
			r.examine()
		}
	}
	r.examine()
	return survivors
}

// crashed is the directory of children that were killed.
type crashed struct {
	t      *testing.T
	random *rand.Rand
	cfg    cache.Config
	held   map[int]bool // contents that are complete, as far as the children have told
}

// crash starts a child and sees it die as planned.
func (r *crashed) crash(plan string) {
	child := exec.CommandContext(r.t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+r.cfg.Dir, crashAt+"="+plan)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		r.t.Fatal(err)
	}
	patience := time.AfterFunc(time.Minute, func() {
		r.t.Errorf("the child was not killed at %q within a minute", plan)
		_ = child.Process.Kill()
	})
	defer patience.Stop()
	r.listen(out, func() {
		if plan == "" {
			time.AfterFunc(time.Duration(1+r.random.IntN(60_000))*time.Microsecond, func() { _ = child.Process.Kill() })
		}
	})
	_ = child.Wait() // the state says more
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		r.t.Errorf("the child ended by itself: %v", child.ProcessState)
	}
}

// listen notes what the child says, until it is dead. It calls up when the child is about to open the cache.
func (r *crashed) listen(out io.Reader, up func()) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line, i := lines.Text(), 0
		if _, err := fmt.Sscanf(line, saysStored, &i); err == nil {
			r.held[i] = true
			continue
		}
		if _, err := fmt.Sscanf(line, saysGone, &i); err == nil {
			delete(r.held, i)
			continue
		}
		if line != saysUp {
			r.t.Error(line)
			continue
		}
		up()
	}
}

// examine opens the directory as its next owner does.
func (r *crashed) examine() {
	r.within()
	c := cachetest.Unchecked(r.t, r.cfg)
	if _, err := c.Verify(r.t.Context(), true, r.mayBeDamaged); err != nil {
		r.t.Error(err)
	}
	if err := c.Check(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	for i := range r.held {
		b, d := crashContent(i)
		if size, ok := c.Stat(d); !ok || size != int64(len(b)) {
			r.t.Errorf("content %d was complete with %d bytes, and is there: %v, with %d", i, len(b), ok, size)
		}
	}
	b, d := content(5000) // everything works
	wantWhole(r.t, c, newOrigin(b).request(d), b)
	cachetest.Settle(c)
	for i := range r.held {
		_, d := crashContent(i)
		if _, ok := c.Stat(d); !ok {
			delete(r.held, i) // for that fill
		}
	}
	if err := c.Close(); err != nil {
		r.t.Error(err)
	}
	r.within()
}

// mayBeDamaged fails the test unless content is one of those that children damage.
func (r *crashed) mayBeDamaged(d oci.Digest, err error) {
	for i := crashVictims; i < crashContents; i++ {
		if _, victim := crashContent(i); victim == d {
			return
		}
	}
	r.t.Errorf("%s: %v", d, err)
}

// within compares what the disk holds with the limit.
func (r *crashed) within() {
	used, err := usage(r.cfg.Dir)
	if err != nil {
		r.t.Error(err)
	}
	if used > int64(r.cfg.MaxSize) {
		r.t.Errorf("%d bytes are on the disk, %d more than the limit", used, used-int64(r.cfg.MaxSize))
	}
}

// TestWritten counts what is in no hole.
func TestWritten(t *testing.T) {
	f := func(want int64, parts ...string) {
		t.Helper()
		if got := written([]byte(strings.Join(parts, ""))); got != want {
			t.Errorf("%q: %d bytes, want %d", parts, got, want)
		}
	}
	hole := strings.Repeat("\x00", 100)
	f(0)
	f(0, hole)
	f(3, "abc")
	f(3, hole, "abc", hole)
	f(6, "abc", hole, "abc")
	f(8, "abc\x00\x00abc", hole)
	f(2, "\x00a")
	f(3, "a\x00\x00")
}
