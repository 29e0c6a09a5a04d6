package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/config"
	"mirror/internal/node"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// figures are what one start shows. Memory is in bytes.
type figures struct {
	Ready time.Duration // from nothing to a node that says it is ready
	Heap  int64         // live after a collection
	// Resident is the memory of the process after a collection, without mapped files, which the kernel takes back when it
	// needs room. AtReady is the same when it was ready, Later at the end of the watch.
	Resident, AtReady, Later int64
	Lookup, Link             time.Duration // of one digest in the cache, and in its repository in the catalog
	Busy                     time.Duration // of CPU, while the node was watched
}

// measure starts a node on o.dir and prints figures.
func measure(o options) error {
	f, err := measureNode(o)
	if err != nil {
		return err
	}
	if o.blobs > 0 {
		if err := measureLookups(&f, o); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

func configFor(dir string) config.Config {
	cfg := config.Default()
	cfg.Server.Listen, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Cache.Dir, cfg.Cache.MaxSize = dir, units.TiB
	cfg.Cache.Scrub.Rate = 0 // it would find files without content
	return cfg
}

func measureNode(o options) (f figures, err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	begin := time.Now()
	n, err := node.New(configFor(o.dir), "bench", log)
	if err != nil {
		return f, err
	}
	if err := n.Start(context.Background()); err != nil {
		return f, err
	}
	f.Ready = time.Since(begin)
	if f.AtReady, err = resident("RssAnon:"); err != nil {
		return f, err
	}
	busy := cpuTime()
	time.Sleep(o.watch)
	f.Busy = cpuTime() - busy
	if f.Later, err = resident("RssAnon:"); err != nil {
		return f, err
	}
	f.Heap = liveHeap()
	if f.Resident, err = resident("RssAnon:"); err != nil {
		return f, err
	}
	return f, n.Close(context.Background())
}

// measureLookups looks digests up at random, as a hit does. What is not found would be a directory that this program did
// not make right.
func measureLookups(f *figures, o options) error {
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	names, err := catalog.Open(catalog.Config{Dir: o.dir}, log, reg)
	if err != nil {
		return err
	}
	content, err := cache.Open(configFor(o.dir).Cache, log, reg)
	if err != nil {
		return errors.Join(err, names.Close())
	}
	f.Lookup, err = each(o.blobs, func(_ int, d oci.Digest) bool { _, ok := content.Stat(d); return ok })
	if err == nil {
		repositories := repositoriesOf(o.blobs)
		f.Link, err = each(o.blobs, func(n int, d oci.Digest) bool { _, ok := names.Link(repositories[n/blobsPerRepository], d); return ok })
	}
	return errors.Join(err, content.Close(), names.Close())
}

func repositoriesOf(blobs int) []oci.Repository {
	var all []oci.Repository
	for n := 0; n < blobs; n += blobsPerRepository {
		all = append(all, repositoryNumber(n))
	}
	return all
}

// each returns how long look takes on average.
func each(blobs int, look func(n int, d oci.Digest) bool) (time.Duration, error) {
	const count = 1 << 20
	numbers := make([]int, count)
	digests := make([]oci.Digest, count)
	for i := range digests {
		numbers[i] = rand.IntN(blobs)
		digests[i] = digestNumber(numbers[i])
	}
	begin := time.Now()
	for i, d := range digests {
		if !look(numbers[i], d) {
			return 0, fmt.Errorf("blob %d is not there", numbers[i])
		}
	}
	return time.Since(begin) / count, nil
}

// liveHeap returns the bytes on the heap that are in use.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what the first one has made free to sweep
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// resident returns a line of /proc/self/status in bytes.
func resident(key string) (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no %s", key)
}

// cpuTime returns what the process has used so far.
func cpuTime() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
