package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"strings"

	"mirror/internal/cache"
	"mirror/internal/oci"
	"mirror/internal/units"
)

const (
	// crashDir is the environment variable that makes the test binary the child of a crash test, in that directory.
	crashDir = "MIRROR_CACHE_CRASH_DIR"
	// crashAt is another one: "LABEL N" lets the child end itself at its N-th file operation with that label.
	crashAt = "MIRROR_CACHE_CRASH_AT"
	// crashContents is how many contents the child uses. Those from crashVictims on it damages now and then, and the last
	// one, which is large, it fills from a source that is often down: nobody waits for that.
	crashContents, crashVictims = 24, 20
)

// What the child writes to its standard output, one line each.
const (
	saysUp     = "up"        // before it opens the cache
	saysStored = "stored %d" // content of that number is complete
	saysGone   = "gone %d"   // it may not be any more: it was withdrawn, and its file is about to be unlinked
	saysWrong  = "wrong: %s" // the cache has broken a promise
)

// crashConfig is so small that the child evicts all the time.
func crashConfig(dir string) cache.Config {
	return cache.Config{Dir: dir, MaxSize: 4 * units.MiB, Memory: cache.MemoryConfig{MaxSize: units.MiB, MaxBlob: 64 * units.KiB}}
}

// crashContent is the child's content of that number: mostly small, some above the limit of what is small.
func crashContent(i int) ([]byte, oci.Digest) {
	if i%5 == 3 {
		return content(smallLimit + 1000*i)
	}
	return content(100 + 7777*i)
}

// crasher uses a cache in every way until it is killed.
type crasher struct {
	cache *cache.Cache

	mu     sync.Mutex
	stored [crashVictims]bool // what was said last
}

// crashChild runs several workers in one run of the cache after another.
func crashChild(dir, at string) {
	say(saysUp)
	die := deathAt(at)
	for {
		c, err := cache.Open(crashConfig(dir), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			panic(err)
		}
		c.SetPace(time.Millisecond)
		r := &crasher{cache: c}
		c.SetFault(func(operation string) error {
			if operation == "unlink" {
				r.withdraw()
			}
			die(operation)
			return nil
		})
		for i := range crashVictims {
			r.acknowledge(i) // what earlier runs have stored, so that it is known when it goes
		}
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for range 40 {
					r.step(dir, rand.IntN(crashContents), rand.IntN(20))
				}
			})
		}
		workers.Wait()
		if err := c.Close(); err != nil {
			say(saysWrong, err)
		}
	}
}

// deathAt returns a function that is told each file operation, and ends the process at the one that at names.
func deathAt(at string) func(operation string) {
	var count, turn int64
	label := at
	if i := bytes.LastIndexByte([]byte(at), ' '); i >= 0 {
		label = at[:i]
		_, _ = fmt.Sscan(at[i:], &turn)
	}
	return func(operation string) {
		if operation == label && atomic.AddInt64(&count, 1) == turn {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// say writes a line. The pipe keeps it when the process is killed.
func say(format string, args ...any) {
	if _, err := fmt.Printf(format+"\n", args...); err != nil {
		os.Exit(1) // the parent is gone
	}
}

// withdraw tells the parent what has left the table, before the first of it is unlinked.
func (r *crasher) withdraw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, stored := range r.stored {
		if stored && !r.complete(i) {
			r.stored[i] = false
			say(saysGone, i)
		}
	}
}

// acknowledge tells the parent that content is complete, if it is. Whoever withdraws it waits for the lock.
func (r *crasher) acknowledge(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i < crashVictims && !r.stored[i] && r.complete(i) {
		r.stored[i] = true
		say(saysStored, i)
	}
}

func (r *crasher) complete(i int) bool {
	_, d := crashContent(i)
	_, ok := r.cache.Stat(d)
	return ok
}

// step does one thing with content number i.
func (r *crasher) step(dir string, i, what int) {
	b, d := crashContent(i)
	o := newOrigin(b)
	o.chunk = 50_000
	switch request := o.request(d); {
	case i == crashContents-1:
		if what < 15 {
			request.From = onlyUpTo(o, int64(len(b)/2))
		}
		go r.read(request, b, 0) // until Close
	case what == 0:
		r.cache.Remove(d)
	case what < 4:
		_ = r.cache.Put(d, b) // there may be no room
	case what < 6:
		o.wrong = []int64{int64(len(b) / 2)}
		request.From = repaired(o)
		r.read(request, b, 0)
	case what == 6 && i >= crashVictims:
		_ = os.Truncate(pathOf(dir, d), 50) // it may not be there
		r.read(request, b, 0)
	case what == 7 && len(b) <= smallLimit: // what is left pinned leaves room for the others
		if err := errors.Join(r.cache.Pin(d), r.cache.Unpin(d)); err != nil {
			say(saysWrong, err)
		}
	case what < 10:
		r.pieces(o.chunked(d), b)
	case what < 12:
		request = o.chunked(d)
		request.Size = int64(len(b))
		r.read(request, b, 0, len(b)/2, len(b)-1)
	default:
		r.read(request, b, 0)
	}
	r.acknowledge(i)
}

// pieces asks for some pieces of content at once, and for all of it now and then. They may fail, but who gets one gets the
// bytes of it; only one in the middle, which step delivers wrong at times, is not known to be right yet.
func (r *crasher) pieces(request cache.Request, b []byte) {
	var open sync.WaitGroup
	for range 1 + rand.IntN(3) {
		p, err := r.cache.Piece(request, chunkOf(rand.Int64N(int64(len(b)/chunk+1))))
		if err != nil {
			continue
		}
		open.Go(func() {
			defer p.Close()
			var got bytes.Buffer
			_, err := p.WriteTo(&got)
			if at := int64(len(b)/2) - p.Span().Start; 0 <= at && at < int64(got.Len()) {
				got.Bytes()[at] = b[len(b)/2]
			}
			if err == nil && !bytes.Equal(got.Bytes(), b[p.Span().Start:p.Span().End]) {
				say(saysWrong, fmt.Sprintf("piece %v of %d bytes is not right", p.Span(), len(b)))
			}
		})
	}
	if rand.IntN(3) == 0 {
		r.read(request, b, 0)
	}
	open.Wait()
}

// repaired delivers wrong bytes at first, and right ones from then on.
func repaired(o *origin) cache.FillFunc {
	return func(ctx context.Context, want cache.Span) (*cache.Stream, error) {
		o.set(func(o *origin) {
			if len(o.wishes) > 0 {
				o.wrong = nil
			}
		})
		return o.from(ctx, want)
	}
}

// read reads content from several places on at once. It may fail, but a body that is complete is right.
func (r *crasher) read(request cache.Request, b []byte, offsets ...int) {
	var readers []*reading
	for _, off := range offsets {
		blob, _, err := r.cache.Fill(request)
		if err != nil {
			return
		}
		readers = append(readers, start(blob, b, int64(off), -1))
	}
	for _, reader := range readers {
		<-reader.done
		whole := len(reader.expect) == len(b)
		if got := reader.count(); reader.err == nil && got != len(reader.expect) && whole {
			say(saysWrong, fmt.Sprintf("a reader got %d of %d bytes (-1: wrong ones) and no error", got, len(b)))
		}
	}
}

// usage sums the bytes of content on the disk: complete, partial and in quarantine. Of a partial file they are what was
// written to it, and not the blocks that this takes: a span that ends inside of a block takes all of it, as the last byte of
// every file does. Journals are no content: like the index they come on top, and none is longer than longestJournal.
func usage(dir string) (total int64, err error) {
	for _, below := range []string{"blobs", "partial", "quarantine"} {
		err = errors.Join(err, filepath.Walk(filepath.Join(dir, below), func(path string, info os.FileInfo, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil // the process was killed before it made that
			case err != nil || !info.Mode().IsRegular():
				return err
			case strings.Contains(filepath.Base(path), ".journal"):
				if info.Size() > longestJournal {
					return fmt.Errorf("%s has %d bytes", path, info.Size())
				}
			case below == "partial":
				b, err := os.ReadFile(path)
				total += written(b)
				return err
			default:
				total += info.Size()
			}
			return nil
		}))
	}
	return total, err
}

// longestJournal is a header, the state of a SHA-512 and a span for each chunk of the longest content of these tests.
const longestJournal = 512 + 16*300

// written counts the bytes of a partial file that are in no hole. The content of these tests has no sixteen zeros in a row.
func written(b []byte) int64 {
	const row = 16
	n, zeros := len(b), 0
	for i, c := range b {
		if c == 0 {
			zeros++
		}
		if c != 0 || i == len(b)-1 {
			if zeros >= row {
				n -= zeros
			}
			zeros = 0
		}
	}
	return int64(n)
}
