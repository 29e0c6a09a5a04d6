//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// smallDisk is the size of the file systems of these tests.
	smallDisk = 64 << 20
	// smallImages images of smallLayers layers of smallLayer bytes each, pulled in smallRounds rounds, are 504 MB together.
	smallImages, smallLayers, smallLayer, smallRounds = 7, 3, 8_000_000, 3
)

// TestSmallFileSystem pulls 500 MB through a mirror whose data directory is on a file system of 64 MB: with a limit that
// fits, and with one that is larger than the file system, so that the kernel says when there is no more. All pulls are
// right, no limit is ever exceeded, and when somebody else fills the file system, pulls go on.
func TestSmallFileSystem(t *testing.T) {
	registry := must(t, shared.registry)
	var images []*image
	for n := range smallImages {
		images = append(images, pushRandom(t, registry, fmt.Sprint("library/small-", n), smallLayers, smallLayer))
	}
	for _, kind := range fileSystems() {
		for _, limit := range []string{"48MiB", "1GiB"} {
			t.Run(kind+" and "+limit, func(t *testing.T) { pullThroughSmallDisk(t, registry, images, kind, limit) })
		}
	}
}

// fileSystems are those that can be made here. Without loop devices, as in some containers, that is one in memory only.
func fileSystems() []string {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return []string{"tmpfs"}
	}
	return []string{"tmpfs", "ext4"}
}

// mountSmall mounts a fresh small file system for the length of the test.
func mountSmall(t *testing.T, kind string) string {
	t.Helper()
	parent := tempDir(t)
	dir := filepath.Join(parent, "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if kind == "tmpfs" {
		run(t, nil, "mount", "-t", "tmpfs", "-o", fmt.Sprint("size=", smallDisk), "none", dir)
	} else {
		file := filepath.Join(parent, "image")
		run(t, nil, "truncate", "-s", fmt.Sprint(smallDisk), file)
		run(t, nil, "mkfs."+kind, "-q", "-F", "-m", "0", file)
		run(t, nil, "mount", "-o", "loop", file, dir)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func pullThroughSmallDisk(t *testing.T, r *registry, images []*image, kind, limit string) {
	disk := mountSmall(t, kind)
	g := newGate(t, r)
	set := dockerHub(g)
	set.dir, set.maxSize = filepath.Join(disk, "cache"), limit
	m := startMirror(t, set)
	peak := watchUse(t, disk)
	for range smallRounds {
		pullAll(t, m, images)
	}
	used := peak()
	t.Logf("at most %d bytes of the file system were in use", used)
	// Beside content there are the index, the catalog, and what is evicted while its last readers still have it open.
	if most := int64(48<<20 + smallLayer); limit == "48MiB" && used > most {
		t.Errorf("%d bytes of the file system were in use, want at most %d", used, most)
	}
	expectKept(t, m, g, images[0])

	t.Run("somebody else fills the file system", func(t *testing.T) {
		ballast := fillUp(t, disk)
		pullAll(t, m, images[1:4])
		if m.ready(t) != http.StatusOK {
			t.Error("the mirror is not ready")
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("and frees it", func(t *testing.T) { expectKept(t, m, g, images[4]) })
}

// pullAll pulls images with three clients at once.
func pullAll(t *testing.T, m *mirror, images []*image) {
	t.Helper()
	client := newClient(t)
	clients, ctx := errgroup.WithContext(t.Context())
	clients.SetLimit(3)
	for _, i := range images {
		clients.Go(func() error { return pullImage(ctx, client, m, i, "") })
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
}

// expectKept pulls an image until it is served without the registry. A mirror that has found its disk full a moment ago
// may be wary for a while.
func expectKept(t *testing.T, m *mirror, g *gate, i *image) {
	t.Helper()
	eventually(t, "an image is kept", 90*time.Second, func() bool {
		before := g.blobBytes("")
		pullPlain(t, m, i, "")
		return g.blobBytes("") == before
	})
}

// watchUse looks at a file system every few milliseconds until the function that it returns is called, which returns how
// much of it was in use at most, beyond what was when it began.
func watchUse(t *testing.T, dir string) (peak func() int64) {
	t.Helper()
	begin, err := inUse(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	var most atomic.Int64
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if now, err := inUse(dir); err == nil {
				most.Store(max(most.Load(), now-begin))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return func() int64 {
		stop()
		<-done
		return most.Load()
	}
}

func inUse(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize, nil
}

// fillUp writes a file until there is no space left, and returns its path.
func fillUp(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 64<<10); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

// TestReadOnlyFileSystemIsRefused: a start that cannot write says what to do.
func TestReadOnlyFileSystemIsRefused(t *testing.T) {
	disk := mountSmall(t, "tmpfs")
	run(t, nil, "mount", "-o", "remount,ro", disk)
	code, output := exitCode(t, must(t, shared.binary), "serve", "--set", "cache.dir="+disk,
		"--set", "server.listen="+address(t), "--set", "admin.listen="+address(t))
	if code != 1 || !strings.Contains(output, "read-only") || !strings.Contains(output, "set cache.dir") {
		t.Errorf("code %d, want 1 and what to do: %s", code, output)
	}
}
