//go:build e2e

package e2e_test

import (
	"path/filepath"
	"testing"
	"time"
)

// docker is a Docker daemon with a registry mirror, and its command line client.
type docker struct {
	host string
	last string // the reference pulled last
}

// startDocker runs a daemon with all its data below a directory of the test.
func startDocker(t *testing.T, mirrorURL string) puller {
	t.Helper()
	dir := tempDir(t)
	driver := "overlay2"
	if !overlayMounts(t, dir) {
		driver = "vfs" // Slower, but runs everywhere.
	}
	d := &docker{host: "unix://" + filepath.Join(dir, "socket")}
	daemon := start(t, dir, offline, "dockerd",
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--host", d.host, "--config-file", emptyConfig(t, dir),
		"--storage-driver="+driver, "--iptables=false", "--ip6tables=false", "--bridge=none",
		"--insecure-registry", "127.0.0.0/8", "--registry-mirror", mirrorURL)
	eventually(t, "Docker daemon up", time.Minute, func() bool {
		if code, ended := daemon.wait(0); ended {
			t.Fatalf("dockerd ended with code %d", code)
		}
		_, err := try(t.Context(), nil, "docker", "--host", d.host, "info")
		return err == nil
	})
	return d
}

func (d *docker) pull(t *testing.T, ref string) {
	t.Helper()
	run(t, nil, "docker", "--host", d.host, "pull", "--quiet", ref)
	d.last = ref
}

func (d *docker) run(t *testing.T, argv ...string) string {
	t.Helper()
	return run(t, nil, append([]string{"docker", "--host", d.host, "run", "--rm", "--network", "none", d.last}, argv...)...)
}

func (d *docker) wipe(t *testing.T) {
	t.Helper()
	run(t, nil, "docker", "--host", d.host, "image", "rm", "--force", d.last)
	run(t, nil, "docker", "--host", d.host, "system", "prune", "--all", "--force")
	if left := run(t, nil, "docker", "--host", d.host, "image", "ls", "--all", "--quiet"); left != "" {
		t.Fatalf("images left after wiping: %s", left)
	}
}
