package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mirror/internal/oci"
)

// tags decodes a tags list.
func (a answer) tags(t *testing.T) (name string, tags []string) {
	t.Helper()
	a.wantHeader(t, "Content-Type", "application/json")
	var list struct {
		Name string
		Tags []string
	}
	if err := json.Unmarshal(a.body, &list); err != nil || list.Tags == nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return list.Name, list.Tags
}

// next returns the target of the next page, which must be an address of this mirror.
func (a answer) next(t *testing.T) string {
	t.Helper()
	link := a.Header.Get("Link")
	if link == "" {
		return ""
	}
	target, rel, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !strings.HasPrefix(target, "/") || rel != `; rel="next"` {
		t.Fatalf("got Link %q", link)
	}
	return target
}

func TestTags(t *testing.T) {
	h := newHarness(t)
	image := h.ghcr.AddImage("org/app", "a", 10)
	want := []string{"a", "b", "c", "d", "e"}
	for _, tag := range want {
		h.ghcr.Tag("org/app", tag, image.Digest)
	}
	for _, base := range []string{"/v2/org/app/tags/list?ns=ghcr.io", "/ghcr.io/v2/org/app/tags/list?", "/v2/ghcr.io/org/app/tags/list?"} {
		name, got := h.get(base).want(t, 200).tags(t)
		if !slices.Equal(got, want) || !strings.HasSuffix(name, "org/app") {
			t.Errorf("%s: got %q %q", base, name, got)
		}
		// Page by page, through the links.
		got = nil
		for target := base + "&n=2"; target != ""; {
			a := h.get(target).want(t, 200)
			_, page := a.tags(t)
			if len(page) > 2 {
				t.Errorf("%s: got %d tags", target, len(page))
			}
			got, target = append(got, page...), a.next(t)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s in pages: got %q", base, got)
		}
		if _, got := h.get(base+"&last=c").want(t, 200).tags(t); !slices.Equal(got, []string{"d", "e"}) {
			t.Errorf("%s after c: got %q", base, got)
		}
	}
	a := h.get("/v2/org/app/tags/list?n=0&ns=ghcr.io").want(t, 200)
	if _, got := a.tags(t); len(got) != 0 || a.Header.Get("Link") != "" {
		t.Errorf("n=0: got %q, Link %q", got, a.Header.Get("Link"))
	}
	if _, got := h.get("/v2/org/app/tags/list?n=5000&ns=ghcr.io").want(t, 200).tags(t); !slices.Equal(got, want) {
		t.Errorf("n=5000: got %q", got)
	}
	checkErrorBody(t, h.get("/v2/org/nothing/tags/list?ns=ghcr.io").want(t, 404), "NAME_UNKNOWN")
}

// TestManyTags checks that a page is cut, and says so, even when the upstream would send everything.
func TestManyTags(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "", 10)
	for i := range 1500 {
		h.hub.Tag("org/app", fmt.Sprintf("t%04d", i), image.Digest)
	}
	a := h.get("/v2/org/app/tags/list?n=2000").want(t, 200)
	if _, got := a.tags(t); len(got) != 1000 {
		t.Errorf("got %d tags, want 1000", len(got))
	}
	b := h.get(a.next(t)).want(t, 200)
	if _, got := b.tags(t); len(got) != 500 || b.next(t) != "" {
		t.Errorf("got %d tags and Link %q", len(got), b.Header.Get("Link"))
	}
}

// referrers decodes an image index and returns the digests in it.
func (a answer) referrers(t *testing.T) []string {
	t.Helper()
	a.wantHeader(t, "Content-Type", oci.MediaTypeImageIndex)
	var index struct {
		SchemaVersion int
		MediaType     string
		Manifests     []struct{ Digest, ArtifactType string }
	}
	if err := json.Unmarshal(a.body, &index); err != nil || index.SchemaVersion != 2 || index.MediaType != oci.MediaTypeImageIndex ||
		index.Manifests == nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	digests := []string{}
	for _, m := range index.Manifests {
		digests = append(digests, m.Digest)
	}
	slices.Sort(digests)
	return digests
}

func TestReferrers(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("upstream has the API %v", api), func(t *testing.T) {
			h := newHarness(t)
			image := h.hub.AddImage("org/app", "1", 10)
			target := "/v2/org/app/referrers/" + image.Digest.String()
			if !api {
				h.hub.DisableReferrers()
				if got := h.get(target).want(t, 200).referrers(t); len(got) != 0 {
					t.Errorf("got %q", got)
				}
				return
			}
			signature := h.hub.AddReferrer("org/app", image.Descriptor(), "application/x.signature")
			sbom := h.hub.AddReferrer("org/app", image.Descriptor(), "application/x.sbom")
			both := []string{signature.Digest.String(), sbom.Digest.String()}
			slices.Sort(both)
			if got := h.get(target).want(t, 200).referrers(t); !slices.Equal(got, both) {
				t.Errorf("got %q, want %q", got, both)
			}
			a := h.get(target+"?artifactType=application%2Fx.sbom").want(t, 200)
			a.wantHeader(t, "OCI-Filters-Applied", "artifactType")
			if got := a.referrers(t); !slices.Equal(got, []string{sbom.Digest.String()}) {
				t.Errorf("filtered: got %q", got)
			}
			if got := h.get("/v2/org/app/referrers/"+digestA).want(t, 200).referrers(t); len(got) != 0 {
				t.Errorf("of an unknown digest: got %q", got)
			}
		})
	}
}

func TestReferrersInPages(t *testing.T) {
	h := newHarness(t)
	image := h.ghcr.AddImage("org/app", "1", 10)
	var want []string
	for range 5 {
		want = append(want, h.ghcr.AddReferrer("org/app", image.Descriptor(), "application/x").Digest.String())
	}
	slices.Sort(want)
	h.ghcr.SetPageSize(2)
	var got []string
	pages := 0
	for target := "/v2/org/app/referrers/" + image.Digest.String() + "?ns=ghcr.io"; target != ""; pages++ {
		a := h.get(target).want(t, 200)
		got, target = append(got, a.referrers(t)...), a.next(t)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("got %d referrers in %d pages, want %d in 3", len(got), pages, len(want))
	}
}
