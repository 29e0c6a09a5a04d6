package oci_test

import (
	"errors"
	"strings"
	"testing"

	"mirror/internal/oci"
)

const sampleDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestSplitImage(t *testing.T) {
	f := func(text, wantPath, wantRef string) {
		t.Helper()
		path, ref, err := oci.SplitImage(text)
		if err != nil || path != wantPath || ref.String() != wantRef {
			t.Errorf("%q: got %q, %q, %v, want %q, %q", text, path, ref, err, wantPath, wantRef)
		}
	}
	f("alpine", "alpine", "latest")
	f("alpine:3.20", "alpine", "3.20")
	f("ghcr.io/org/app", "ghcr.io/org/app", "latest")
	f("localhost:5000/app", "localhost:5000/app", "latest")
	f("localhost:5000/app:v1", "localhost:5000/app", "v1")
	f("alpine@"+sampleDigest, "alpine", sampleDigest)
	f("alpine:3.20@"+sampleDigest, "alpine", sampleDigest)
	f("alpine:"+strings.Repeat("a", 128), "alpine", strings.Repeat("a", 128))
}

func TestSplitImageRefuses(t *testing.T) {
	f := func(text string) {
		t.Helper()
		var problem *oci.Error
		if path, ref, err := oci.SplitImage(text); !errors.As(err, &problem) {
			t.Errorf("%q: got %q, %q, %v, want a refusal", text, path, ref, err)
		}
	}
	f("")
	f(":v1")
	f("@" + sampleDigest)
	f("alpine:")
	f("alpine:-x")
	f("alpine:" + strings.Repeat("a", 129))
	f("alpine@")
	f("alpine@3.20")
	f("alpine@sha256:0")
}

func TestSplitPath(t *testing.T) {
	f := func(path, wantRegistry, wantName string) {
		t.Helper()
		registry, name := oci.SplitPath(path, func(registry string) bool { return registry == "corp" })
		if registry != wantRegistry || name != wantName {
			t.Errorf("%q: got %q, %q, want %q, %q", path, registry, name, wantRegistry, wantName)
		}
	}
	f("alpine", "", "alpine")
	f("library/alpine", "", "library/alpine")
	f("docker.io/alpine", "docker.io", "alpine")
	f("localhost/app", "localhost", "app")
	f("host:5000/a/b", "host:5000", "a/b")
	f("corp/app", "corp", "app")
	f("corp", "", "corp")
	f("docker.io", "", "docker.io")
}

func TestFamiliarRepository(t *testing.T) {
	f := func(registry, name, want string) {
		t.Helper()
		if got, err := oci.FamiliarRepository(registry, name); err != nil || got.String() != want {
			t.Errorf("%s, %s: got %q, %v, want %q", registry, name, got, err, want)
		}
	}
	f("docker.io", "alpine", "docker.io/library/alpine")
	f("docker.io", "org/app", "docker.io/org/app")
	f("ghcr.io", "app", "ghcr.io/app")
	if _, err := oci.FamiliarRepository("docker.io", ""); err == nil {
		t.Error("an empty name was accepted")
	}
}

func TestDigestCompare(t *testing.T) {
	f := func(a, b string) {
		t.Helper()
		x, y := oci.MustParseDigest(a), oci.MustParseDigest(b)
		if x.Compare(y) != strings.Compare(a, b) || y.Compare(x) != strings.Compare(b, a) {
			t.Errorf("%s and %s are not ordered like their text", a, b)
		}
	}
	other := "sha256:" + strings.Repeat("f", 64)
	long := "sha512:" + strings.Repeat("0", 128)
	f(sampleDigest, sampleDigest)
	f(sampleDigest, other)
	f(other, long)
}

func FuzzSplitImage(f *testing.F) {
	for _, seed := range []string{"alpine", "ghcr.io/org/app:v1", "a@" + sampleDigest, "a:b@c", "::", "/:/", "host:1/a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path, ref, err := oci.SplitImage(text)
		if err != nil {
			return
		}
		if path == "" || ref.IsDigest() == (ref.Tag != "") {
			t.Errorf("%q: got %q and %+v", text, path, ref)
		}
		again := path + ":" + ref.Tag
		if ref.IsDigest() {
			again = path + "@" + ref.Digest.String()
		}
		if path2, ref2, err := oci.SplitImage(again); err != nil || path2 != path || ref2 != ref {
			t.Errorf("%q: got %q, %v, %v from %q, want the same again", text, path2, ref2, err, again)
		}
	})
}
