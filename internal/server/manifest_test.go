package server_test

import (
	"strings"
	"testing"
	"time"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

func TestManifestByTagAndDigest(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1.2", 100)
	for _, reference := range []string{"1.2", image.Digest.String(), "1.2"} {
		a := h.get(manifestPath("org/app", reference)).want(t, 200)
		a.wantBody(t, image.Manifest)
		a.wantHeader(t, "Content-Type", image.MediaType)
		a.wantHeader(t, "Docker-Content-Digest", image.Digest.String())
		a.wantHeader(t, "ETag", `"`+image.Digest.String()+`"`)
		a.wantHeader(t, "Warning", "")
		a.wantHeader(t, "OCI-Namespace", "")
		a.wantHeader(t, "Accept-Ranges", "")
	}
	if got := h.hub.Count(upstreamtest.Manifest, "GET"); got != 1 {
		t.Errorf("the manifest was fetched %d times", got)
	}
}

// TestHeadOfColdTag checks that the length of a HEAD answer is that of stored bytes, which are there afterwards.
func TestHeadOfColdTag(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1", 100)
	head := h.head(manifestPath("org/app", "1")).want(t, 200)
	head.wantBody(t, nil)
	head.wantHeader(t, "Docker-Content-Digest", image.Digest.String())
	head.wantHeader(t, "Content-Type", image.MediaType)
	if head.ContentLength != int64(len(image.Manifest)) {
		t.Errorf("got length %d, want %d", head.ContentLength, len(image.Manifest))
	}
	h.hub.Stop()
	h.get(manifestPath("org/app", image.Digest.String())).want(t, 200).wantBody(t, image.Manifest)
}

// TestNamespaces asks for the same repository in every way that clients have.
func TestNamespaces(t *testing.T) {
	h := newHarness(t)
	image := h.ghcr.AddImage("org/app", "1", 100)
	hub := h.hub.AddImage("library/alpine", "3", 100)
	f := func(target, namespace string, want upstreamtest.Image, headers ...string) {
		t.Helper()
		a := h.get(target, headers...).want(t, 200)
		a.wantBody(t, want.Manifest)
		a.wantHeader(t, "OCI-Namespace", namespace)
	}
	f("/v2/org/app/manifests/1?ns=ghcr.io", "ghcr.io", image)
	f("/v2/org/app/manifests/1?ns=GHCR.IO%3A443", "ghcr.io", image)
	f("/v2/ghcr.io/org/app/manifests/1?ns=ghcr.io", "ghcr.io", image)
	f("/v2/ghcr.io/org/app/manifests/1", "ghcr.io", image)
	f("/ghcr.io/v2/org/app/manifests/1", "ghcr.io", image)
	f("/ghcr.io/v2/org/app/manifests/1?ns=ghcr.io", "ghcr.io", image)
	f("/v2/alpine/manifests/3", "", hub)
	f("/v2/library/alpine/manifests/3", "", hub)
	f("/v2/alpine/manifests/3?ns=registry-1.docker.io", "docker.io", hub)
	f("/v2/docker.io/library/alpine/manifests/3", "docker.io", hub)
	f("/docker.io/v2/alpine/manifests/3", "docker.io", hub)
	for _, host := range []string{"ghcr.test", "GHCR.test", "ghcr.test:5000"} {
		a := h.raw("GET", "GET /v2/org/app/manifests/1 HTTP/1.1\r\nHost: "+host+"\r\n\r\n").want(t, 200)
		a.wantBody(t, image.Manifest)
		a.wantHeader(t, "OCI-Namespace", "")
	}
	// The errors of a registry that was named say which one it was.
	h.get("/v2/org/app/manifests/2?ns=ghcr.io").want(t, 404).wantHeader(t, "OCI-Namespace", "ghcr.io")
}

func TestNegotiation(t *testing.T) {
	h := newHarness(t)
	index := h.hub.AddIndex("org/app", "multi", h.hub.AddImage("org/app", "", 10))
	image := h.hub.AddImage("org/app", "single", 10)
	f := func(reference string, status int, accept ...string) {
		t.Helper()
		var headers []string
		for _, line := range accept {
			headers = append(headers, "Accept: "+line)
		}
		a := h.get(manifestPath("org/app", reference), headers...).want(t, status)
		if status == 404 {
			checkErrorBody(t, a, "MANIFEST_UNKNOWN")
			if !strings.Contains(string(a.body), oci.MediaTypeImageIndex) {
				t.Errorf("the message does not name the stored type: %s", a.body)
			}
		}
	}
	f("multi", 200)
	f("multi", 200, "*/*")
	f("multi", 200, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList, oci.MediaTypeImageManifest, oci.MediaTypeImageIndex)
	f("multi", 404, oci.MediaTypeDockerManifest+", "+oci.MediaTypeImageManifest)
	f("multi", 404, "text/html")
	f(index.Digest.String(), 200, oci.MediaTypeImageManifest)
	f("single", 200, oci.MediaTypeDockerManifest+","+oci.MediaTypeImageManifest)
	f(image.Digest.String(), 200, "text/html")
}

func TestManifestConditions(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1", 10)
	for _, reference := range []string{"1", image.Digest.String()} {
		a := h.get(manifestPath("org/app", reference), `If-None-Match: "`+image.Digest.String()+`"`).want(t, 304)
		a.wantHeader(t, "ETag", `"`+image.Digest.String()+`"`)
		h.get(manifestPath("org/app", reference), `If-None-Match: "x"`).want(t, 200).wantBody(t, image.Manifest)
	}
	h.get(manifestPath("org/app", "2"), "If-None-Match: *").want(t, 404)
}

// TestStaleTag switches the upstream off when the tag is not fresh any more.
func TestStaleTag(t *testing.T) {
	h := newHarnessWith(t, options{fresh: time.Nanosecond})
	image := h.hub.AddImage("org/app", "1", 10)
	h.get(manifestPath("org/app", "1")).want(t, 200).wantHeader(t, "X-Cache", "MISS")
	h.get(manifestPath("org/app", "1")).want(t, 200).wantHeader(t, "X-Cache", "HIT")
	h.hub.Stop()
	for range 2 {
		a := h.get(manifestPath("org/app", "1")).want(t, 200)
		a.wantBody(t, image.Manifest)
		a.wantHeader(t, "X-Cache", "STALE")
		if w := a.Header.Get("Warning"); !strings.HasPrefix(w, `299 - "`) || !strings.HasSuffix(w, `"`) {
			t.Errorf("got Warning %q", w)
		}
	}
	// By digest there is nothing to check.
	h.get(manifestPath("org/app", image.Digest.String())).want(t, 200).wantHeader(t, "X-Cache", "HIT")
}

func TestUnreachableUpstream(t *testing.T) {
	h := newHarness(t)
	h.hub.Stop()
	checkErrorBody(t, h.get(manifestPath("org/app", "1")).want(t, 502), "UNAVAILABLE")
	checkErrorBody(t, h.get(blobPath("org/app", oci.MustParseDigest(digestA))).want(t, 502), "UNAVAILABLE")
	checkErrorBody(t, h.get("/v2/org/app/tags/list").want(t, 502), "UNAVAILABLE")
	// Referrers have a fallback that clients find by a 404.
	checkErrorBody(t, h.get("/v2/org/app/referrers/"+digestA).want(t, 404), "NAME_UNKNOWN")
}

func TestPrivateRepository(t *testing.T) {
	h := newHarness(t)
	h.hub.AddImage("org/app", "1", 10)
	h.hub.RequireToken("user", "secret")
	h.hub.SetPrivate("org/app")
	a := h.get(manifestPath("org/app", "1")).want(t, 404)
	checkErrorBody(t, a, "NAME_UNKNOWN")
	a.wantHeader(t, "WWW-Authenticate", "")
}
