package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"mirror/internal/upstream/upstreamtest"
)

// TestInspection pulls two images that share a layer, looks at them, pins one and removes the other. A kill undoes nothing.
func TestInspection(t *testing.T) {
	origin := upstreamtest.New(t)
	first := origin.AddImage("library/alpine", "3.20", 2<<20, 1<<20)
	second := origin.AddImageOver("library/alpine", "3.21", first.Layers[:1], 3<<20)
	dir := t.TempDir()
	args := []string{"--set", "cache.dir=" + dir, "--set", upstreamOf(origin)}
	s := serve(t, args...)
	pullImage(t, s.base, "3.20", first)
	pullImage(t, s.base, "3.21", second)

	f := func(wantCode int, want, wantErr string, args ...string) {
		t.Helper()
		code, stdout, stderr := mirror(t, append(args, "--admin", s.admin)...)
		if code != wantCode || !regexp.MustCompile(want).MatchString(stdout) || !strings.Contains(stderr, wantErr) {
			t.Errorf("mirror %q: got %d, %q, %q, want %d, %q, %q", args, code, stdout, stderr, wantCode, want, wantErr)
		}
	}
	f(0, `(?m)^IMAGE +DIGEST +SIZE +HELD +STORED +USED +PINNED\ndocker.io/library/alpine:3.20 +sha256:\w{12} +3.0 MiB +complete +\d+s +\d+s +-$`, "", "list")
	f(0, `docker.io/library/alpine:3.21 `, "", "list", "alpine")
	f(0, `^IMAGE.*\n$`, "", "list", "ghcr.io/org/app")
	f(0, `^pinned docker.io/library/alpine@`+second.Digest.String()+`: 5.0 MiB in 4 blobs\n$`, "", "pin", "alpine:3.21")
	f(1, `^$`, "remove: docker.io/library/alpine:3.21 is pinned: unpin it first", "remove", "alpine:3.21")
	f(0, `docker.io/library/alpine:3.21 .* pinned`, "", "list")

	for _, illegal := range []string{"..", "../../pins", "app//x", "/alpine:3.20"} {
		f(1, `^$`, "remove: repository name ", "remove", illegal)
		f(1, `^$`, "remove: repository name ", "remove", "--repository", illegal)
	}
	used := stored(t, dir)
	f(0, `^removed docker.io/library/alpine:3.20: freed 1.0 MiB in 3 blobs\n$`, "", "remove", "alpine:3.20")
	if freed := used - stored(t, dir); freed < 1<<20 || freed >= 2<<20 {
		t.Errorf("the disk has %d bytes less, want the one layer that was not shared, and its manifest and config", freed)
	}
	if log := s.logged(); !strings.Contains(log, "127.0.0.1 removed 3 blobs") || !strings.Contains(log, "reference=docker.io/library/alpine:3.20") {
		t.Errorf("nobody can tell who removed what:\n%s", log)
	}
	s.signal(syscall.SIGKILL) // what was done stays done
	s.ended(-1)
	s = serve(t, args...)
	f(1, `^$`, "remove: docker.io/library/alpine:3.20 is not held here: mirror list shows what is", "remove", "alpine:3.20")
	f(0, `^IMAGE.*\ndocker.io/library/alpine:3.21 .* complete .* pinned\n$`, "", "list")
	pullImage(t, s.base, "3.21", second)

	f(0, `(?m)^disk +5.0 MiB in 4 blobs of 50.0 GiB$`, "", "status")
	f(0, `(?m)^docker.io\n  endpoint +`+origin.URL+`  works\n  traffic +[\d.]+ MiB served, [\d.]+ \w+ fetched in \d+ requests, [\d.]+ \w+ saved$`, "", "status")
	f(0, `(?m)^off.example\n  endpoint +https://off.example  offline$`, "", "status")
	f(0, `^unpinned `+second.Digest.String()+`: 5.0 MiB in 4 blobs\n$`, "", "unpin", second.Digest.String())
	f(0, `^removed docker.io/library/alpine: freed 5.0 MiB in 4 blobs\n$`, "", "remove", "--repository", "alpine")
	asJSON(t, s.admin)
	s.signal(syscall.SIGTERM)
	s.ended(0)
}

// asJSON checks that the machine's form of the two lists is JSON and nothing else.
func asJSON(t *testing.T, adminURL string) {
	t.Helper()
	for _, name := range []string{"list", "status"} {
		code, stdout, stderr := mirror(t, name, "--output", "json", "--admin", adminURL)
		var answer map[string]any
		if err := json.Unmarshal([]byte(stdout), &answer); err != nil || code != 0 || len(answer) == 0 {
			t.Errorf("%s: got %d, %q, %q, %v", name, code, stdout, stderr, err)
		}
	}
}

// pullImage pulls an image of library/alpine whole.
func pullImage(t *testing.T, base, tag string, image upstreamtest.Image) {
	t.Helper()
	fetch(t, base+"/v2/library/alpine/manifests/"+tag, len(image.Manifest))
	fetch(t, base+"/v2/library/alpine/blobs/"+image.Config.Digest.String(), len(image.Config.Bytes))
	for _, layer := range image.Layers {
		fetch(t, base+"/v2/library/alpine/blobs/"+layer.Digest.String(), len(layer.Bytes))
	}
}

func fetch(t *testing.T, url string, want int) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != int64(want) || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: got %d, %d bytes, %v, want %d bytes", url, response.StatusCode, n, err, want)
	}
}

// stored returns how many bytes are below the directory of content.
func stored(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(_ string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestOneDirectoryOneProcess starts a second mirror on the directory of a running one.
func TestOneDirectoryOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, "--set", "cache.dir="+dir)
	code, stdout, stderr := mirror(t, "serve", "--set", "cache.dir="+dir, "--set", "server.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "another process owns this data directory: stop it, or set cache.dir") {
		t.Errorf("got %d, %q, %q, want 1 and what to do", code, stdout, stderr)
	}
	s.signal(syscall.SIGTERM)
	s.ended(0)
}
