package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

// TestVerify pulls a layer, damages its file, and verifies the store: reported, repaired, and in order again.
func TestVerify(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("library/debian", "12", 2<<20).Layers[0]
	dir := t.TempDir()
	args := []string{"--set", "cache.dir=" + dir, "--set", upstreamOf(origin)}
	pull(t, layer.Digest, func() { refused(t, dir) }, args...)

	f := func(wantCode int, wantOut, wantErr string, args ...string) {
		t.Helper()
		code, stdout, stderr := mirror(t, append([]string{"verify", "--set", "cache.dir=" + dir}, args...)...)
		if code != wantCode || !strings.Contains(stdout, wantOut) || !strings.Contains(stderr, wantErr) {
			t.Errorf("verify %q: got %d, %q, %q, want %d, %q, %q", args, code, stdout, stderr, wantCode, wantOut, wantErr)
		}
	}
	f(0, "1 blobs, 2097152 bytes, 0 damaged\n", "")
	damage(t, dir, layer.Digest)
	damaged := layer.Digest.String() + ": stored content is not what its digest names; in docker.io/library/debian\n"
	f(1, damaged+"1 blobs, 2097152 bytes, 1 damaged\n", "run with --repair")
	f(1, damaged, "run with --repair")
	f(1, damaged, "took 1 damaged blobs out of service", "--repair")
	f(0, "0 blobs, 0 bytes, 0 damaged\n", "")
	kept, err := filepath.Glob(filepath.Join(dir, "quarantine", "*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("in quarantine: %q, %v, want the layer", kept, err)
	}
	pull(t, layer.Digest, nil, args...)
	f(0, "1 blobs, 2097152 bytes, 0 damaged\n", "")
}

func TestVerifyWithoutStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	code, _, stderr := mirror(t, "verify", "--set", "cache.dir="+dir)
	if code != 1 || !strings.Contains(stderr, "cache.dir") {
		t.Errorf("got %d, %q, want 1 and the key to change", code, stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("verify made the data directory that it did not find")
	}
}

// refused verifies a store that a running mirror owns.
func refused(t *testing.T, dir string) {
	t.Helper()
	code, stdout, stderr := mirror(t, "verify", "--set", "cache.dir="+dir)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "stop the mirror") {
		t.Errorf("got %d, %q, %q, want 1 and what to do", code, stdout, stderr)
	}
}

// pull starts a mirror, pulls a blob of library/debian through it and stops it. meanwhile runs before the stop.
func pull(t *testing.T, d oci.Digest, meanwhile func(), args ...string) {
	t.Helper()
	s := serve(t, args...)
	response, err := http.Get(s.base + "/v2/library/debian/blobs/" + d.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !d.Verifies(body) {
		t.Errorf("pulled %d bytes, %v, want those of %s", len(body), err, d)
	}
	if meanwhile != nil {
		meanwhile()
	}
	s.signal(syscall.SIGTERM)
	s.ended(0)
}

// damage changes one byte in the middle of a stored blob.
func damage(t *testing.T, dir string, d oci.Digest) {
	t.Helper()
	path := filepath.Join(dir, "blobs", "sha256", d.Encoded()[:2], d.Encoded())
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2]++
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
