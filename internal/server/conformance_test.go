package server_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

// TestConformance asks what the pull workflows of the distribution specification's conformance suites ask, v1.1.1 and
// the read-only mode of its successor: once with nothing in the cache, once with everything.
func TestConformance(t *testing.T) {
	h := newHarness(t)
	set := newConformanceSet(h)
	for _, state := range []string{"cold", "warm"} {
		t.Run(state, func(t *testing.T) {
			set.h.t = t
			set.ping(t)
			set.blobs(t)
			set.manifests(t)
			set.missing(t)
			set.ranges(t)
			set.discovery(t)
			set.refusesPush(t)
		})
	}
}

// conformanceSet is the content that the suites push first.
type conformanceSet struct {
	h       *harness
	image   upstreamtest.Image
	index   upstreamtest.Index
	large   oci.Digest            // a manifest of almost 4 MB
	content map[oci.Digest][]byte // blobs: an empty one, the empty object, one under sha512, and the image's own
}

const conformanceRepo = "myorg/myrepo"

func newConformanceSet(h *harness) *conformanceSet {
	s := &conformanceSet{h: h, content: map[oci.Digest][]byte{}}
	s.image = h.hub.AddImage(conformanceRepo, "tagtest0", 2048, 1<<20)
	s.index = h.hub.AddIndex(conformanceRepo, "index", s.image, h.hub.AddImage(conformanceRepo, "", 10))
	for _, layer := range append(s.image.Layers, s.image.Config) {
		s.content[layer.Digest] = layer.Bytes
	}
	for _, content := range [][]byte{{}, []byte("{}")} {
		s.content[h.hub.AddBlob(conformanceRepo, content)] = content
	}
	long := oci.DigestOf(oci.SHA512, pattern(3000))
	h.hub.AddBlobUnder(conformanceRepo, long, pattern(3000))
	s.content[long] = pattern(3000)
	body := `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json",` +
		`"digest":"` + s.image.Config.Digest.String() + `","size":2},"layers":[],"annotations":{"a":"` + strings.Repeat("x", 3900000) + `"}}`
	s.large = h.hub.AddManifest(conformanceRepo, "large", oci.MediaTypeImageManifest, []byte(body))
	for _, tag := range []string{"test0", "test1", "test2", "test3"} {
		h.hub.Tag(conformanceRepo, tag, s.image.Digest)
	}
	h.hub.AddReferrer(conformanceRepo, s.image.Descriptor(), "application/vnd.food.stand")
	return s
}

func (s *conformanceSet) ping(t *testing.T) { s.h.get("/v2/").want(t, 200) }

func (s *conformanceSet) blobs(t *testing.T) {
	for d, content := range s.content {
		target := blobPath(conformanceRepo, d)
		for _, a := range []answer{s.h.head(target), s.h.get(target)} {
			a.want(t, 200)
			a.wantHeader(t, "Docker-Content-Digest", d.String())
			a.wantHeader(t, "Content-Length", strconv.Itoa(len(content)))
		}
		s.h.get(target).wantBody(t, content)
	}
}

func (s *conformanceSet) manifests(t *testing.T) {
	for reference, d := range map[string]oci.Digest{
		"tagtest0": s.image.Digest, s.image.Digest.String(): s.image.Digest, "index": s.index.Digest,
		s.index.Digest.String(): s.index.Digest, "large": s.large, s.large.String(): s.large,
	} {
		target := manifestPath(conformanceRepo, reference)
		head, get := s.h.head(target).want(t, 200), s.h.get(target).want(t, 200)
		for _, a := range []answer{head, get} {
			a.wantHeader(t, "Docker-Content-Digest", d.String())
			a.wantHeader(t, "Content-Length", strconv.Itoa(len(get.body)))
		}
		if oci.DigestOf(oci.SHA256, get.body) != d {
			t.Errorf("%s: the body is not what the digest names", reference)
		}
	}
}

// missing asks for what is not there. A body on such a GET is what the suite sends.
func (s *conformanceSet) missing(t *testing.T) {
	f := func(target string, statuses ...int) {
		t.Helper()
		for _, a := range []answer{s.h.head(target), s.h.get(target), s.h.raw("GET", request("GET", target, "Content-Length: 3")+"abc")} {
			if !slices.Contains(statuses, a.StatusCode) {
				t.Errorf("%s: got %d, want %v", target, a.StatusCode, statuses)
			}
		}
	}
	random := oci.DigestOf(oci.SHA256, []byte("nobody has this"))
	f(blobPath(conformanceRepo, random), 404)
	f(manifestPath(conformanceRepo, random.String()), 404)
	f(manifestPath(conformanceRepo, "no-such-tag"), 404)
	f(manifestPath(conformanceRepo, ".INVALID_MANIFEST_NAME"), 404)
	f(manifestPath(conformanceRepo, "sha256:totallywrong"), 400)
	f(manifestPath(conformanceRepo, "sha256:baddigeststring"), 400)
}

func (s *conformanceSet) ranges(t *testing.T) {
	layer := s.image.Layers[0]
	f := func(header string, status, off, end int) {
		t.Helper()
		a := s.h.get(blobPath(conformanceRepo, layer.Digest), "Range: bytes="+header).want(t, status)
		if status == http.StatusPartialContent {
			a.wantBody(t, layer.Bytes[off:end])
		}
	}
	f("500-1499", 206, 500, 1500)
	f("500-", 206, 500, 2048)
	f("-500", 206, 1548, 2048)
	f("2000-5000", 206, 2000, 2048)
	f("500-0", 416, 0, 0)
	f("5000-10000", 416, 0, 0)
}

func (s *conformanceSet) discovery(t *testing.T) {
	_, all := s.h.get("/v2/"+conformanceRepo+"/tags/list").want(t, 200).tags(t)
	for _, tag := range []string{"tagtest0", "test0", "test3", "index", "large"} {
		if !slices.Contains(all, tag) {
			t.Errorf("tag %s is not in %q", tag, all)
		}
	}
	if _, two := s.h.get("/v2/"+conformanceRepo+"/tags/list?n=2").want(t, 200).tags(t); len(two) != 2 {
		t.Errorf("n=2: got %q", two)
	}
	random := oci.DigestOf(oci.SHA256, []byte("nobody refers to this"))
	if got := s.h.get("/v2/"+conformanceRepo+"/referrers/"+random.String()).want(t, 200).referrers(t); len(got) != 0 {
		t.Errorf("referrers of an unknown digest: %q", got)
	}
	if got := s.h.get("/v2/"+conformanceRepo+"/referrers/"+s.image.Digest.String()).want(t, 200).referrers(t); len(got) != 1 {
		t.Errorf("referrers: %q", got)
	}
	s.h.get("/v2/"+conformanceRepo+"/referrers/sha256:bad").want(t, 400)
}

func (s *conformanceSet) refusesPush(t *testing.T) {
	for _, raw := range []string{
		request("POST", "/v2/"+conformanceRepo+"/blobs/uploads/", "Content-Length: 0"),
		request("PUT", manifestPath(conformanceRepo, "new"), "Content-Length: 0"),
		request("DELETE", manifestPath(conformanceRepo, "tagtest0")),
		request("DELETE", blobPath(conformanceRepo, s.image.Config.Digest)),
	} {
		checkErrorBody(t, s.h.raw("GET", raw).want(t, 405), "UNSUPPORTED")
	}
}
