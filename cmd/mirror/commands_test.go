package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, bad := file("good.yaml", "log: {level: warn}\n"), file("bad.yaml", "cache:\n  max_size: lots\n")

	f := func(wantCode int, wantOut, wantErr string, args ...string) {
		t.Helper()
		code, stdout, stderr := mirror(t, args...)
		if code != wantCode || !strings.Contains(stdout, wantOut) || !strings.Contains(stderr, wantErr) {
			t.Errorf("mirror %q: got %d, %q, %q, want %d, %q, %q", args, code, stdout, stderr, wantCode, wantOut, wantErr)
		}
	}
	f(0, runtime.Version(), "", "version")
	f(0, "check-config", "", "help")
	f(0, "--config", "", "help", "serve")
	f(0, "valid", "", "check-config")
	f(0, "valid", "", "check-config", "--config", good)
	f(0, "valid", "", "check-config", "--config", good, "--log-format", "json", "--set", "log.level=debug")
	f(2, "", bad+":2:13: cache.max_size: got \"lots\", want a size", "check-config", "--config", bad)
	f(2, "", "cache.max_size", "serve", "--config", bad)
	f(2, "", "--set a=1: a: unknown key", "check-config", "--set", "a=1")
	f(2, "", "absent.yaml", "check-config", "--config", "absent.yaml")
	f(2, "", "unknown command", "sevre")
	f(2, "", "unknown command", "serve", "now")
	f(2, "", "unknown flag: --prot", "serve", "--prot", "5000")
	f(2, "", "--log-level: got \"loud\"", "version", "--log-level", "loud")
	f(0, "--repository", "", "help", "remove")
	f(2, "", "accepts 1 arg(s), received 0", "remove")
	f(2, "", "accepts 1 arg(s), received 2", "pin", "alpine", "debian")
	f(2, "", "accepts at most 1 arg(s)", "list", "alpine", "debian")
	f(2, "", "--output: got \"yaml\", want text or json", "status", "--output", "yaml")
	f(2, "", "--admin: got \"127.0.0.1:5001\", want the URL", "unpin", "alpine", "--admin", "127.0.0.1:5001")
	f(2, "", "cache.max_size", "list", "--config", bad)
	f(1, "", "list: no mirror answers at http://127.0.0.1:1: ", "list", "--admin", "http://127.0.0.1:1")
	f(1, "", "or name its admin address with --admin", "status", "--set", "admin.listen=127.0.0.1:1")
	f(2, "", "--log-format: got \"xml\"", "serve", "--log-format", "xml")
}

func TestStartErrorExitsWithOne(t *testing.T) {
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer closed.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	code, _, stderr := mirror(t, "serve", "--set", "cache.dir="+t.TempDir(),
		"--set", "server.listen="+taken.Addr().String(), "--set", "admin.listen=127.0.0.1:0")
	if code != 1 || !strings.Contains(stderr, "change server.listen") {
		t.Errorf("got %d, %q, want 1 and the key to change", code, stderr)
	}
}

func TestConnect(t *testing.T) {
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer registry.Close()
	website := httptest.NewServer(http.NotFoundHandler())
	defer website.Close()
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer closed.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	f := func(wantCode int, want string, sets ...string) {
		t.Helper()
		args := []string{"check-config", "--connect", "--set", "server.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0",
			"--set", "cache.dir=" + dir, "--set", "upstreams=[{registry: docker.io, endpoints: ['" + registry.URL + "']}]"}
		for _, set := range sets {
			args = append(args, "--set", set)
		}
		code, stdout, stderr := mirror(t, args...)
		if code != wantCode || !strings.Contains(stdout+stderr, want) {
			t.Errorf("with %q: got %d, %q, %q, want %d and %q", sets, code, stdout, stderr, wantCode, want)
		}
	}
	f(0, "valid")
	f(2, "server.listen:", "server.listen="+taken.Addr().String())
	f(2, "admin.listen:", "admin.listen="+taken.Addr().String())
	f(2, "cache.dir:", "cache.dir="+filepath.Join(file, "below"))
	f(2, "peers.listen:", "peers.listen="+taken.Addr().String())
	f(2, "peers.transfer:", "peers.listen=127.0.0.1:0", "peers.transfer="+taken.Addr().String())
	f(2, "peers.secret_file: read secret file "+file, "peers.listen=127.0.0.1:0", "peers.secret_file="+file)
	f(2, "peers.join[0]:", "peers.listen=127.0.0.1:0", "peers.join=[nobody.invalid:5002]")
	f(2, "server.tls:", "server.tls={certificate: "+file+", key: "+file+"}")
	f(2, "upstreams[0].endpoints[0]: GET "+website.URL+"/v2/: got 404", "upstreams.0.endpoints.0="+website.URL)
	f(2, "upstreams[0].endpoints[0]:", "upstreams.0.endpoints.0=http://127.0.0.1:1")
	f(0, "valid", "upstreams.0.endpoints.0=http://127.0.0.1:1", "upstreams.0.offline=true")
	f(2, "upstreams[0].ca_file: "+file+" holds no certificate", "upstreams.0.ca_file="+file)
	f(2, "upstreams[0].credentials.password_file: "+file+" is empty", "upstreams.0.credentials={username: me, password_file: "+file+"}")
	f(2, "upstreams[0].credentials.docker_config: open", "upstreams.0.credentials.docker_config="+filepath.Join(dir, "absent"))
	f(2, "upstreams[0].client_certificate:", "upstreams.0.client_certificate="+file, "upstreams.0.client_key="+file)
	f(0, `note: upstreams[0] (example.azurecr.io) is anonymous: to sign in, add "credentials: {azure: {}}" to its upstream`, "upstreams.0.registry=example.azurecr.io")
	for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(key, "")
	}
	ecr := "upstreams.0.registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	f(2, `upstreams[0].endpoints[0]: answers 401 to a mirror without credentials: to sign in, add "credentials: {ecr: {}}"`, ecr, "upstreams.0.endpoints.0="+closed.URL)
	f(2, "upstreams[0].credentials: credentials refused: find AWS keys: read shared credentials file", ecr,
		"upstreams.0.credentials={ecr: {credentials_file: "+filepath.Join(dir, "absent")+"}}")
	f(2, "upstreams[0].credentials.helper:", "upstreams.0.credentials.helper=absent-from-every-path")
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the checks left %d files in the data directory, %v, want none beside the test's own", len(left)-1, err)
	}
}
