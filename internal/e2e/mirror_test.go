//go:build e2e

package e2e_test

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// upstream is an entry of the mirror's configuration.
type upstream struct {
	registry     string
	endpoint     string
	freshFor     time.Duration // one minute when zero
	username     string        // no credentials when empty
	passwordFile string
}

// setup is what a scenario decides about its mirror. The first upstream is the default one.
type setup struct {
	upstreams []upstream
	listen    string        // address of the registry API; a free one when empty
	dir       string        // the cache directory; one of the test's own when empty
	maxSize   string        // of the disk tier; the default when empty
	drain     time.Duration // how long transfers get after SIGTERM; 20 s when zero
	race      bool          // run the build with the race detector
}

// mirror is a running mirror program.
type mirror struct {
	*program
	addr   string // of the registry API
	url    string
	admin  string // URL of the admin listener
	cache  string // its cache directory
	killed bool
}

// dockerHub is the usual set-up: one upstream that answers for docker.io, whose tags are fresh for a moment only.
func dockerHub(g *gate) setup {
	return setup{upstreams: []upstream{{registry: "docker.io", endpoint: g.url, freshFor: time.Second}}}
}

// startMirror runs a mirror for the length of a test and waits until it is ready. At the end it must stop cleanly, and
// its log must hold neither a panic nor a data race.
func startMirror(t *testing.T, s setup) *mirror {
	t.Helper()
	dir := tempDir(t)
	m := &mirror{addr: s.listen, cache: s.dir}
	if m.addr == "" {
		m.addr = address(t)
	}
	if m.cache == "" {
		m.cache = filepath.Join(dir, "cache")
	}
	admin := address(t)
	m.url, m.admin = "http://"+m.addr, "http://"+admin
	file := filepath.Join(dir, "mirror.yaml")
	if err := os.WriteFile(file, []byte(s.yaml(m.addr, admin, m.cache)), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := shared.binary
	if s.race {
		binary = shared.race
	}
	m.program = start(t, dir, nil, must(t, binary), "serve", "--config", file)
	t.Cleanup(func() { m.end(t) })
	m.awaitReady(t)
	return m
}

func address(t *testing.T) string {
	t.Helper()
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// yaml is the configuration file, as a user would write it.
func (s setup) yaml(listen, admin, dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n  listen: %q\n  drain_timeout: %v\n", listen, cmp.Or(s.drain, 20*time.Second))
	fmt.Fprintf(&b, "admin:\n  listen: %q\n", admin)
	fmt.Fprintf(&b, "cache:\n  dir: %q\n", dir)
	if s.maxSize != "" {
		fmt.Fprintf(&b, "  max_size: %s\n", s.maxSize)
	}
	fmt.Fprintf(&b, "log:\n  level: debug\nupstreams:\n")
	for i, u := range s.upstreams {
		fmt.Fprintf(&b, "  - registry: %s\n    default: %t\n", u.registry, i == 0)
		fmt.Fprintf(&b, "    endpoints: [%q]\n", u.endpoint)
		if u.username != "" {
			fmt.Fprintf(&b, "    credentials: { username: %q, password_file: %q }\n", u.username, u.passwordFile)
		}
		if u.freshFor != 0 {
			fmt.Fprintf(&b, "    tags: { fresh_for: %v, stale_for: 168h, missing_for: 1s }\n", u.freshFor)
		}
	}
	return b.String()
}

func (m *mirror) awaitReady(t *testing.T) {
	t.Helper()
	if err := awaitAnswer(m.program, m.admin+"/readyz"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "mirror ready", 20*time.Second, func() bool { return m.ready(t) == http.StatusOK })
}

// oneShot returns a client that leaves no connection behind, which would count among what the mirror holds.
func oneShot() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// ready returns the status of /readyz, 0 when the admin listener is gone.
func (m *mirror) ready(t *testing.T) int {
	t.Helper()
	a, err := fetch(t.Context(), oneShot(), m.admin+"/readyz")
	if err != nil {
		return 0
	}
	return a.status
}

// end stops the mirror and holds it to the contract: exit code 0 after a clean stop.
func (m *mirror) end(t *testing.T) {
	t.Helper()
	m.signal(syscall.SIGTERM)
	code, ended := m.wait(40 * time.Second)
	switch {
	case !ended:
		t.Error("mirror did not end within 40 s of SIGTERM, with a drain time of 20 s")
	case code != 0 && !m.killed:
		t.Errorf("mirror ended with code %d, want 0", code)
	}
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", "level=ERROR msg=panic"} {
		if _, after, found := strings.Cut(m.output(), bad); found {
			t.Errorf("mirror wrote %q:%s", bad, after)
		}
	}
}

// kill ends the mirror without any notice.
func (m *mirror) kill() {
	m.killed = true
	m.program.kill()
}

// reachable says whether the registry API takes connections.
func (m *mirror) reachable() bool {
	conn, err := net.DialTimeout("tcp", m.addr, time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// openFiles counts the descriptors that the mirror's process holds.
func (m *mirror) openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
