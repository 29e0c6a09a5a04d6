package node_test

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"mirror/internal/node"
)

// TestDirectoryIsRefused: an error about the data directory says what to do.
func TestDirectoryIsRefused(t *testing.T) {
	f := func(name, want string, make func(dir string) string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			cfg := configFor(t, nil)
			cfg.Cache.Dir = make(t.TempDir())
			n, err := node.New(cfg, "v0.0.0-test", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			asNobody(func() { err = n.Start(t.Context()) })
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "set cache.dir") {
				t.Errorf("got %v, want an error with %q that says to set cache.dir", err, want)
			}
		})
	}
	f("a file", "not a directory", func(dir string) string { return write(t, dir, "file", 0o755) })
	f("below a file", "not a directory", func(dir string) string { return filepath.Join(write(t, dir, "file", 0o755), "cache") })
	f("no right to make it", "permission denied", func(dir string) string { return filepath.Join(closed(t, dir, 0o555), "cache") })
	f("no right to write", "permission denied", func(dir string) string { return closed(t, dir, 0o555) })
	f("no right to enter", "permission denied", func(dir string) string { return closed(t, dir, 0) })
	f("files of somebody else", "permission denied", func(dir string) string {
		write(t, dir, "catalog.db", 0)
		return closed(t, dir, 0o777)
	})
}

// write makes a file in a directory that everybody may enter, and returns its path.
func write(t *testing.T, dir, name string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(closed(t, dir, 0o755), name)
	if err := os.WriteFile(path, nil, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// closed gives a directory its mode, and lets everybody come to it.
func closed(t *testing.T, dir string, mode fs.FileMode) string {
	t.Helper()
	for path, mode := range map[string]fs.FileMode{dir: mode, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) }) // so that it can be removed
	return dir
}

// asNobody calls do with the rights of a user who owns nothing, when this one may do everything. The thread is given up
// afterwards, because its rights are.
func asNobody(do func()) {
	if os.Geteuid() != 0 {
		do()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		const nobody = 65534
		_ = syscall.Setfsuid(nobody) // it tells nothing; the test does
		do()
	}()
	<-done
}
