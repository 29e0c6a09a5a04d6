package server

import (
	"strings"
	"testing"

	"mirror/internal/oci"
)

func TestAccepts(t *testing.T) {
	f := func(mediaType string, want bool, lines ...string) {
		t.Helper()
		if got := accepts(raw(lines), mediaType); got != want {
			t.Errorf("%q for %s: got %v", lines, mediaType, got)
		}
	}
	const index, manifest, list = oci.MediaTypeImageIndex, oci.MediaTypeImageManifest, oci.MediaTypeDockerList
	const docker = oci.MediaTypeDockerManifest

	// What clients send.
	containerd := strings.Join([]string{docker, list, manifest, index, "*/*"}, ", ")
	crane := strings.Join([]string{oci.MediaTypeSchema1, oci.MediaTypeSchema1Signed, docker, manifest, list, index}, ",")
	f(index, true, containerd)
	f(index, true, docker, list, manifest, index)
	f(index, true, manifest, docker, oci.MediaTypeSchema1Signed, oci.MediaTypeSchema1, list, index)
	f(index, true, crane)
	f(index, false, docker+","+manifest)
	f(manifest, true, docker+","+manifest)
	f(list, false, index)
	f(index, true, index+", */*")

	// Everything.
	f(index, true)
	f(index, true, "")
	f(index, true, " , ")
	f(index, true, "*/*")
	f(index, true, "application/*")
	f(index, true, "text/html", "application/*;q=0.8")
	f(index, true, strings.ToUpper(index))
	f(index, true, index+" ; charset=utf-8")

	// Nothing of it.
	f(index, false, "text/*")
	f(index, false, "application/json")
	f(index, false, index+";q=0")
	f(index, false, index+"; q=0.000")
	f(index, true, index+";q=0.1")
	f(index, true, index+";q=0", "*/*")
}

func TestMatchesAny(t *testing.T) {
	d := oci.MustParseDigest(digest256)
	f := func(want bool, lines ...string) {
		t.Helper()
		if got := matchesAny(raw(lines), d); got != want {
			t.Errorf("%q: got %v", lines, got)
		}
	}
	f(true, `"`+digest256+`"`)
	f(true, `W/"`+digest256+`"`)
	f(true, digest256)
	f(true, "*")
	f(true, `"a", "b" , "`+digest256+`"`)
	f(true, `"a"`, digest256)
	f(false)
	f(false, "")
	f(false, `"`)
	f(false, `"`+digest512+`"`)
	f(false, `"`+digest256)
	f(false, "w/"+digest256)
}

func TestRangeApplies(t *testing.T) {
	d := oci.MustParseDigest(digest256)
	f := func(ifRange string, want bool) {
		t.Helper()
		if got := rangeApplies([]byte(ifRange), d); got != want {
			t.Errorf("%q: got %v", ifRange, got)
		}
	}
	f("", true)
	f(`"`+digest256+`"`, true)
	f(digest256, true)
	f(`W/"`+digest256+`"`, false)
	f(`"`+digest512+`"`, false)
	f("Sat, 21 Nov 2026 08:00:00 GMT", false)
}

func raw(lines []string) [][]byte {
	var found [][]byte
	for _, line := range lines {
		found = append(found, []byte(line))
	}
	return found
}

func FuzzAccepts(f *testing.F) {
	for _, seed := range []string{"*/*", "application/*;q=0", "a/b, c/d;q=0.5;x=y", ";;q=", ",", "q=0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		one := accepts([][]byte{line}, oci.MediaTypeImageIndex)
		if all := accepts([][]byte{line, []byte("*/*")}, oci.MediaTypeImageIndex); !all {
			t.Fatalf("%q and a line that takes everything refuse", line)
		}
		if two := accepts([][]byte{line, []byte("text/html")}, oci.MediaTypeImageIndex); two && !one {
			t.Fatalf("%q is taken only with a type that does not match", line)
		}
	})
}

func FuzzMatchesAny(f *testing.F) {
	for _, seed := range []string{"*", `"a"`, `W/"a", b`, digest256, `"` + digest256 + `"`, `"`, ","} {
		f.Add([]byte(seed))
	}
	d := oci.MustParseDigest(digest256)
	f.Fuzz(func(t *testing.T, line []byte) {
		text := string(line)
		if matchesAny([][]byte{line}, d) && !strings.Contains(text, "*") && !strings.Contains(text, digest256) {
			t.Fatalf("%q matches", line)
		}
		_ = rangeApplies(line, d)
	})
}
