//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs are the commands that the scenarios run. The script install brings them.
var programs = []string{
	"dockerd", "docker", "containerd", "ctr", "runc", "podman", "skopeo", "buildah", "docker-registry", "debootstrap",
	"apt-get", "mkfs.ext4", "gcc", "make",
}

// suite builds each dear thing once, when the first test asks for it. Everything it and the tests create lies below
// dir, which makes what is left behind easy to find.
type suite struct {
	dir      string
	binary   func() (string, error)
	race     func() (string, error)
	registry func() (*registry, error)
	debian   func() (*image, error)

	mu      sync.Mutex
	daemons []*program // stopped by close
}

func newSuite() (*suite, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the end-to-end tests mount and start daemons: run them as root")
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("find %s: %w; internal/e2e/install brings it", name, err)
		}
	}
	// A short path, because a Unix socket's may have no more than 107 bytes.
	dir, err := os.MkdirTemp("", "mirror-e2e-")
	if err != nil {
		return nil, fmt.Errorf("create suite directory: %w", err)
	}
	s := &suite{dir: dir}
	s.binary = sync.OnceValues(func() (string, error) { return buildMirror(dir, "mirror") })
	s.race = sync.OnceValues(func() (string, error) { return buildMirror(dir, "mirror-race", "-race") })
	s.registry = sync.OnceValues(s.startRegistry)
	s.debian = sync.OnceValues(s.buildDebian)
	return s, nil
}

// buildMirror builds the program as a release is built, or with the race detector, which needs cgo.
func buildMirror(dir, name string, flags ...string) (string, error) {
	out := filepath.Join(dir, name)
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "./cmd/mirror")...)
	cmd.Dir = "../.."
	cgo := "CGO_ENABLED=0"
	if len(flags) > 0 {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), cgo)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, text)
	}
	return out, nil
}

// keep makes a program that several tests use the suite's to stop.
func (s *suite) keep(p *program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.daemons = append(s.daemons, p)
}

// close stops what the suite started, removes its directory and reports what the tests left behind.
func (s *suite) close() error {
	for _, p := range s.daemons {
		p.stop()
	}
	errs := []error{leftMounts(s.dir), leftProcesses(s.dir)}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// leftMounts reports and removes mounts below dir, so that removing dir does not reach through them.
func leftMounts(dir string) error {
	var errs []error
	for _, m := range mountsBelow(dir) {
		errs = append(errs, fmt.Errorf("mount left behind: %s", m), syscall.Unmount(m, syscall.MNT_DETACH))
	}
	return errors.Join(errs...)
}

func mountsBelow(dir string) []string {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var below []string
	for line := range strings.Lines(string(table)) {
		// The fifth field is the mount point.
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			below = append([]string{fields[4]}, below...)
		}
	}
	return below
}

// leftProcesses reports and ends processes that were given a path below dir. A daemon's helpers may need a moment to
// notice that it is gone.
func leftProcesses(dir string) error {
	for range 50 {
		if len(processesOf(dir)) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	var errs []error
	for pid, command := range processesOf(dir) {
		errs = append(errs, fmt.Errorf("process left behind: %d %s", pid, command))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return errors.Join(errs...)
}

func processesOf(dir string) map[int]string {
	found := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err == nil && strings.Contains(string(text), dir+"/") {
			found[pid] = strings.ReplaceAll(string(text), "\x00", " ")
		}
	}
	delete(found, os.Getpid())
	return found
}

// tempDir makes a directory with a short path for the length of a test. With MIRROR_E2E_KEEP set the directory of a
// failed test stays.
func tempDir(t *testing.T) string {
	t.Helper()
	parent := shared.dir
	if os.Getenv("MIRROR_E2E_KEEP") != "" {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("MIRROR_E2E_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		if err := errors.Join(leftMounts(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// must unwraps what the suite builds once.
func must[T any](t *testing.T, build func() (T, error)) T {
	t.Helper()
	v, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// eventually waits until a condition holds. The limit is generous: it decides when to give up, not what is fast.
func eventually(t *testing.T, what string, limit time.Duration, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so after %v", what, limit)
		}
	}
}
