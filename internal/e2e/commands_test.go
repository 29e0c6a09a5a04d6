//go:build e2e

package e2e_test

import (
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMirrorRunsWithoutAConfiguration(t *testing.T) {
	dir := tempDir(t)
	listen, admin := address(t), address(t)
	m := &mirror{addr: listen, url: "http://" + listen, admin: "http://" + admin, cache: filepath.Join(dir, "cache")}
	m.program = start(t, dir, offline, must(t, shared.binary), "serve", "--set", "cache.dir="+m.cache,
		"--set", "server.listen="+listen, "--set", "admin.listen="+admin)
	t.Cleanup(func() { m.end(t) })
	m.awaitReady(t)

	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusOK, "/metrics": http.StatusOK} {
		if a := get(t, oneShot(), m.admin+path); a.status != want {
			t.Errorf("%s: status %d, want %d", path, a.status, want)
		}
	}
	ping := get(t, oneShot(), m.url+"/v2/")
	if version := ping.header.Get("Docker-Distribution-Api-Version"); ping.status != http.StatusOK || version != "registry/2.0" {
		t.Errorf("/v2/: status %d, API version %q, want 200 and registry/2.0", ping.status, version)
	}
	if a := get(t, oneShot(), m.url+"/v2/app/manifests/latest?ns=registry.invalid"); a.status != http.StatusNotFound {
		t.Errorf("registry that is not configured: status %d, want 404", a.status)
	}
}

// TestMakeRunStartsAMirror does what the README tells a new user to do, on addresses that are free here.
func TestMakeRunStartsAMirror(t *testing.T) {
	dir := tempDir(t)
	admin := address(t)
	arguments := "ARGS=--set cache.dir=" + filepath.Join(dir, "cache") +
		" --set server.listen=" + address(t) + " --set admin.listen=" + admin
	p := start(t, dir, offline, "make", "--directory", "../..", "run", arguments)
	m := &mirror{program: p, admin: "http://" + admin}
	eventually(t, "mirror ready", 3*time.Minute, func() bool { return m.ready(t) == http.StatusOK })
}

func TestCheckConfigTellsGoodFromBad(t *testing.T) {
	dir := tempDir(t)
	binary := must(t, shared.binary)
	good := setup{upstreams: []upstream{{registry: "docker.io", endpoint: "http://127.0.0.1:1"}}}
	text := good.yaml("127.0.0.1:5000", "127.0.0.1:5001", filepath.Join(dir, "cache"))
	cases := []struct {
		name, text string
		code       int
		says       string // a pattern that the output must match
	}{
		{"good", text, 0, ""},
		{"unknown key", strings.Replace(text, "drain_timeout", "drain_timout", 1), 2, `unknown key\.yaml:3:3.*drain_timout`},
		{"wrong type", strings.Replace(text, "20s", "soon", 1), 2, `wrong type\.yaml:3:\d+.*server\.drain_timeout`},
		{"same address twice", strings.Replace(text, ":5001", ":5000", 1), 2, `same address twice\.yaml:\d+:\d+.*admin\.listen`},
		{"endpoint without scheme", strings.Replace(text, "http://", "", 1), 2, `\.yaml:\d+:\d+.*upstreams.*endpoints`},
		{"not YAML", "server: [", 2, `not YAML\.yaml:\d+:\d+`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(dir, c.name+".yaml")
			writeFile(t, file, c.text)
			code, out := exitCode(t, binary, "check-config", "--config", file)
			if code != c.code || !regexp.MustCompile(c.says).MatchString(out) {
				t.Errorf("check-config: code %d, want %d and output like %q:\n%s", code, c.code, c.says, out)
			}
			if c.code == 0 {
				return
			}
			if code, out := exitCode(t, binary, "serve", "--config", file); code != c.code {
				t.Errorf("serve: code %d, want %d:\n%s", code, c.code, out)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	binary := must(t, shared.binary)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := []string{"serve", "--set", "cache.dir=" + tempDir(t), "--set", "admin.listen=" + address(t),
		"--set", "server.listen=" + busy.Addr().String()}
	cases := []struct {
		name string
		args []string
		code int
		says string
	}{
		{"version", []string{"version"}, 0, "go1"},
		{"unknown command", []string{"sreve"}, 2, "sreve"},
		{"unknown flag", []string{"serve", "--confg", "x"}, 2, "confg"},
		{"unknown key", []string{"serve", "--set", "server.listn=x"}, 2, "server.listn"},
		{"missing file", []string{"serve", "--config", "/nonexistent/mirror.yaml"}, 2, "/nonexistent/mirror.yaml"},
		{"address taken", taken, 1, "server.listen"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			code, out := exitCode(t, append([]string{binary}, c.args...)...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("code %d, want %d and output with %q (after %v):\n%s", code, c.code, c.says, time.Since(begin), out)
			}
		})
	}
}
