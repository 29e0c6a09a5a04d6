//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// containerd is a containerd daemon whose client is told by a hosts directory where the mirror is.
type containerd struct {
	socket string
	hosts  string
	last   string // the reference pulled last
	runs   int
}

const containerdConfig = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
[debug]
  level = "warn"
`

// The server line repeats the mirror, so that nothing else is ever asked.
const hostsToml = `server = %q
[host.%q]
  capabilities = ["pull", "resolve"]
`

// startContainerd runs a daemon with all its data below a directory of the test.
func startContainerd(t *testing.T, mirrorURL string) puller {
	t.Helper()
	dir := tempDir(t)
	c := &containerd{socket: filepath.Join(dir, "socket"), hosts: filepath.Join(dir, "hosts")}
	config := fmt.Sprintf(containerdConfig, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket)
	writeFile(t, filepath.Join(dir, "config.toml"), config)
	writeFile(t, filepath.Join(c.hosts, "_default", "hosts.toml"), fmt.Sprintf(hostsToml, mirrorURL, mirrorURL))
	daemon := start(t, dir, offline, "containerd", "--config", filepath.Join(dir, "config.toml"))
	eventually(t, "containerd up", time.Minute, func() bool {
		if code, ended := daemon.wait(0); ended {
			t.Fatalf("containerd ended with code %d", code)
		}
		_, err := try(t.Context(), nil, "ctr", "--address", c.socket, "version")
		return err == nil
	})
	return c
}

// ctr runs the client, which in this version of containerd does the pulling itself.
func (c *containerd) ctr(t *testing.T, argv ...string) string {
	t.Helper()
	return run(t, offline, append([]string{"ctr", "--address", c.socket}, argv...)...)
}

func (c *containerd) pull(t *testing.T, ref string) {
	t.Helper()
	c.ctr(t, "images", "pull", "--hosts-dir", c.hosts, ref)
	c.last = ref
}

func (c *containerd) run(t *testing.T, argv ...string) string {
	t.Helper()
	c.runs++
	return c.ctr(t, append([]string{"run", "--rm", c.last, fmt.Sprint("e2e-", c.runs)}, argv...)...)
}

func (c *containerd) wipe(t *testing.T) {
	t.Helper()
	c.ctr(t, "images", "rm", "--sync", c.last)
	// The collector runs after the client has returned.
	eventually(t, "containerd's content gone", time.Minute, func() bool {
		return strings.TrimSpace(c.ctr(t, "content", "ls", "--quiet")) == ""
	})
}

// writeFile writes a file and the directories above it.
func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// emptyConfig keeps the machine's own daemon configuration out of the test.
func emptyConfig(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "empty.json")
	writeFile(t, file, "{}")
	return file
}

// overlayMounts tries whether an overlay can be mounted below dir.
func overlayMounts(t *testing.T, dir string) bool {
	t.Helper()
	layer := func(name string) string {
		path := filepath.Join(dir, "overlay", name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", layer("lower"), layer("upper"), layer("work"))
	merged := layer("merged")
	if err := syscall.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return false
	}
	return syscall.Unmount(merged, 0) == nil
}
