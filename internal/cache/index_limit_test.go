package cache_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/units"
)

const (
	// indexLimit is the environment variable that makes the test binary the child of TestIndexCannotGrow in that directory.
	indexLimit = "MIRROR_CACHE_INDEX_LIMIT"
	// indexEnd is another one, which says how that child ends: "kill", or "close" after the index may grow again.
	indexEnd = "MIRROR_CACHE_INDEX_END"
	// manyContents is more than the first pages of an index file have room for.
	manyContents = 400
)

// TestIndexCannotGrow: the kernel refuses the index file to grow, and then to be written at all, while content is stored and
// served. Nothing of that is missing in the next run, whether the index could catch up or the process was killed.
func TestIndexCannotGrow(t *testing.T) {
	for _, end := range []string{"close", "kill"} {
		t.Run(end, func(t *testing.T) {
			cfg := cachetest.Config(t)
			cfg.Dir = memoryDir(t)
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), indexLimit+"="+cfg.Dir, indexEnd+"="+end)
			out, err := child.CombinedOutput()
			if len(out) > 0 || (err != nil) != (end == "kill") {
				t.Fatalf("the child ended with %v and said %s", err, out)
			}
			c := cachetest.Open(t, cfg)
			if err := c.Check(t.Context()); err != nil {
				t.Error(err)
			}
			for i := range manyContents {
				b, d := content(i)
				tier(t, c, d, b)
			}
		})
	}
}

// limitedChild stores contents while no file may be longer than the index is at the start, and the second half while none
// may have more than the two pages that tell where the others are.
func limitedChild(dir, end string) {
	log := new(bytes.Buffer)
	cfg := cache.Config{Dir: dir, MaxSize: units.GiB}
	c, err := cache.Open(cfg, slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	must(err)
	info, err := os.Stat(filepath.Join(dir, "index.db"))
	must(err)
	must(limitFiles(uint64(info.Size())))
	for i := range manyContents {
		if i == manyContents/2 {
			must(limitFiles(2 * uint64(os.Getpagesize())))
		}
		b, d := content(i)
		must(c.Put(d, b))
		blob, err := c.Open(d)
		must(err)
		got := new(bytes.Buffer)
		if _, err := blob.WriteRange(got, 0, -1); err != nil || !bytes.Equal(got.Bytes(), b) {
			fmt.Printf("content %d is served with %d bytes and %v\n", i, got.Len(), err)
		}
		must(blob.Close())
	}
	if n := strings.Count(log.String(), "index could not be written"); n != 1 {
		fmt.Printf("%d warnings, want 1: %s\n", n, log)
	}
	if end == "kill" {
		must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
		select {}
	}
	must(limitFiles(1 << 40))
	must(c.Close())
}

// limitFiles bounds the length of the files that this process writes.
func limitFiles(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(n, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

// must ends a child that cannot go on.
func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
