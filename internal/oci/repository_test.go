package oci_test

import (
	"regexp"
	"strings"
	"testing"

	"mirror/internal/oci"
)

// nameGrammar is the specification's own expression, anchored so that a final line break does not pass.
var nameGrammar = regexp.MustCompile(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)

func TestNewRepository(t *testing.T) {
	f := func(name string) {
		t.Helper()
		r, err := oci.NewRepository("docker.io", name)
		if err != nil {
			t.Fatalf("NewRepository(%q): %v", name, err)
		}
		if r.Registry != "docker.io" || r.Name != name || r.String() != "docker.io/"+name {
			t.Fatalf("NewRepository(%q) is %+v", name, r)
		}
	}
	f("a")
	f("0")
	f("library/debian")
	f("a.b/a_b/a__b/a-b/a--b/a-----b")
	f("blobs/manifests/tags/list/referrers")
	f("ghcr.io/org/app")
	f(strings.Repeat("a", 245))
	f(strings.TrimSuffix(strings.Repeat("a/", 32), "/"))
}

func TestNewRepositoryRefuses(t *testing.T) {
	f := func(name, mention string) {
		t.Helper()
		r, err := oci.NewRepository("docker.io", name)
		wantCode(t, err, oci.NameInvalid)
		if r != (oci.Repository{}) {
			t.Fatalf("a refused repository is %+v", r)
		}
		if !strings.Contains(err.Error(), mention) {
			t.Fatalf("error for %q is %q, want it to mention %q", name, err, mention)
		}
	}
	f("", "empty component")
	f("/a", "empty component")
	f("a/", "empty component")
	f("a//b", "empty component")
	f("Library/debian", "not legal")
	f(".", "not legal")
	f("..", "not legal")
	f("a/../b", "not legal")
	f("a..b", "not legal")
	f("a___b", "not legal")
	f("a._b", "not legal")
	f("a-_b", "not legal")
	f("a_-b", "not legal")
	f("a__-b", "not legal")
	f("-a", "not legal")
	f("a-", "not legal")
	f("_a", "not legal")
	f("a.", "not legal")
	f("a b", "not legal")
	f("a:b", "not legal")
	f("a%2fb", "not legal")
	f("a\x00b", "not legal")
	f("ä", "not legal")
	f(strings.TrimSuffix(strings.Repeat("a/", 33), "/"), "too many components")
	f(strings.Repeat("a", 246), "too long")
	f(strings.Repeat("\n", 1<<16), "too long")
}

func FuzzNewRepository(f *testing.F) {
	for _, seed := range []string{"", "a", "library/debian", "a__b", "a___b", "a-_b", "a--b", "A", "a//b", "a.b-", "a\n", strings.Repeat("a/", 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		legal := nameGrammar.MatchString(name) && len("r.example/"+name) <= 255 && strings.Count(name, "/") < 32
		r, err := oci.NewRepository("r.example", name)
		if legal != (err == nil) {
			t.Fatalf("NewRepository(%q) says %v, the grammar says %v", name, err, legal)
		}
		if err != nil {
			wantCode(t, err, oci.NameInvalid)
			return
		}
		if r.Name != name {
			t.Fatalf("NewRepository(%q) is %+v", name, r)
		}
	})
}
