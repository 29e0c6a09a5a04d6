//go:build e2e

package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// podman pulls as the mirror's registries.conf says, into storage of the test's own.
type podman struct {
	dir  string
	env  []string
	last string // the reference pulled last
}

// The mirror gets the registry's name as the first component of the image name, as its documentation tells users. The
// registry itself is a port that nobody listens on.
const registriesConf = `unqualified-search-registries = []
[[registry]]
prefix = "docker.io"
location = "127.0.0.1:1/nowhere"
insecure = true
  [[registry.mirror]]
  location = %q
  insecure = true
`

// trustAll is the signature policy of a machine that checks none.
const trustAll = `{"default": [{"type": "insecureAcceptAnything"}]}`

// newPodman prepares a directory for podman, which needs no daemon.
func newPodman(t *testing.T, mirrorURL string) puller {
	t.Helper()
	return podmanIn(t, tempDir(t), mirrorURL)
}

func podmanIn(t *testing.T, dir, mirrorURL string) *podman {
	t.Helper()
	conf := filepath.Join(dir, "registries.conf")
	writeFile(t, conf, fmt.Sprintf(registriesConf, strings.TrimPrefix(mirrorURL, "http://")+"/docker.io"))
	return &podman{dir: dir, env: append([]string{"CONTAINERS_REGISTRIES_CONF=" + conf}, offline...)}
}

// podman runs a command of it. The vfs driver needs no mounts; the event log would go to the system's journal.
func (p *podman) podman(t *testing.T, argv ...string) string {
	t.Helper()
	return run(t, p.env, append([]string{"podman",
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"),
		"--tmpdir", filepath.Join(p.dir, "tmp"), "--storage-driver", "vfs",
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}, argv...)...)
}

func (p *podman) pull(t *testing.T, ref string) {
	t.Helper()
	p.podman(t, "pull", "--quiet", "--signature-policy", p.policy(t), ref)
	p.last = ref
}

func (p *podman) policy(t *testing.T) string {
	t.Helper()
	file := filepath.Join(p.dir, "policy.json")
	writeFile(t, file, trustAll)
	return file
}

// run keeps the limits low: podman's defaults are more than some containers may set, and runc sets what it is told.
func (p *podman) run(t *testing.T, argv ...string) string {
	t.Helper()
	return p.podman(t, append([]string{"run", "--rm", "--network", "none", "--pull", "never",
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", p.last}, argv...)...)
}

func (p *podman) wipe(t *testing.T) {
	t.Helper()
	p.podman(t, "rmi", "--all", "--force")
}
