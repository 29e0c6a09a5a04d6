package oci_test

import (
	"regexp"
	"strings"
	"testing"

	"mirror/internal/oci"
)

// tagGrammar is the specification's own expression.
var tagGrammar = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func TestParseReference(t *testing.T) {
	f := func(text string, isDigest bool) {
		t.Helper()
		r, err := oci.ParseReference(text)
		if err != nil || r.String() != text || r.IsDigest() != isDigest {
			t.Fatalf("ParseReference(%q) is %+v, %v", text, r, err)
		}
		if (r.Tag == "") == r.Digest.IsZero() {
			t.Fatalf("ParseReference(%q) names both or neither: %+v", text, r)
		}
	}
	f("latest", false)
	f("_", false)
	f("1.36-Alpine_3", false)
	f("list", false)
	f("v1..2", false)
	f(strings.Repeat("x", 128), false)
	f("sha256-"+strings.Repeat("0", 64)+".sig", false)
	f(hello256, true)
	f(hello512, true)
}

func TestParseReferenceRefuses(t *testing.T) {
	f := func(text string, code oci.Code) {
		t.Helper()
		r, err := oci.ParseReference(text)
		wantCode(t, err, code)
		if r.Tag != "" || r.IsDigest() {
			t.Fatalf("a refused reference names something: %+v", r)
		}
	}
	f("", oci.ManifestUnknown)
	f(".INVALID_MANIFEST_NAME", oci.ManifestUnknown)
	f("-v1", oci.ManifestUnknown)
	f("a/b", oci.ManifestUnknown)
	f("a b", oci.ManifestUnknown)
	f("naïve", oci.ManifestUnknown)
	f("a+b", oci.ManifestUnknown)
	f("line\nbreak", oci.ManifestUnknown)
	f(strings.Repeat("x", 129), oci.ManifestUnknown)
	f(strings.Repeat("\x00", 1<<16), oci.ManifestUnknown)
	f(":", oci.DigestInvalid)
	f("latest:latest", oci.DigestInvalid)
	f("latest@"+hello256, oci.DigestInvalid)
	f("sha256:beef", oci.DigestInvalid)
	f("SHA256:"+hello256[7:], oci.DigestInvalid)
}

func FuzzParseReference(f *testing.F) {
	for _, seed := range []string{"", "latest", ".hidden", "a:b", hello256, hello512, strings.Repeat("t", 129), "ü", "x\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// The expression's "$" would let a final line break pass.
		legal := tagGrammar.MatchString(text) && !strings.HasSuffix(text, "\n")
		if oci.ValidTag(text) != legal {
			t.Fatalf("ValidTag(%q) is %v, the grammar says %v", text, !legal, legal)
		}
		r, err := oci.ParseReference(text)
		switch {
		case err != nil && strings.Contains(text, ":"):
			wantCode(t, err, oci.DigestInvalid)
		case err != nil:
			wantCode(t, err, oci.ManifestUnknown)
		case r.String() != text || r.IsDigest() == legal:
			t.Fatalf("ParseReference(%q) is %+v", text, r)
		}
	})
}
