package mirror_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func TestTags(t *testing.T) {
	origin := upstreamtest.New(t)
	for _, name := range []string{"c", "a", "b"} {
		origin.AddImage("app", name, 10)
	}
	h := open(t, origin)
	page, err := h.Tags(t.Context(), repository(t, "app"), 2, "")
	if err != nil || !slices.Equal(page.Tags, []string{"a", "b"}) || !page.More {
		t.Errorf("%+v, %v", page, err)
	}
	page, err = h.Tags(t.Context(), repository(t, "app"), 2, "b")
	if err != nil || !slices.Equal(page.Tags, []string{"c"}) || page.More {
		t.Errorf("%+v, %v", page, err)
	}
	if _, err := h.Tags(t.Context(), repository(t, "nothing"), 2, ""); !errors.Is(err, upstream.ErrNotFound) {
		t.Error(err)
	}
}

func TestReferrers(t *testing.T) {
	for name, prepare := range map[string]func(*upstreamtest.Registry){
		"by the API":          func(*upstreamtest.Registry) {},
		"by the fallback tag": func(o *upstreamtest.Registry) { o.DisableReferrers() },
	} {
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			image := origin.AddImage("app", "1", 10)
			signature := origin.AddReferrer("app", image.Descriptor(), "application/signature")
			origin.AddReferrer("app", image.Descriptor(), "application/sbom")
			prepare(origin)
			if name == "by the fallback tag" {
				body := `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeImageIndex + `","manifests":[{"mediaType":"` + signature.MediaType +
					`","digest":"` + signature.Digest.String() + `","size":` + "1" + `,"artifactType":"application/signature"}]}`
				origin.AddManifest("app", image.Digest.FallbackTag(), oci.MediaTypeImageIndex, []byte(body))
			}
			h := open(t, origin)
			got, err := h.Referrers(t.Context(), repository(t, "app"), image.Digest, "application/signature", "")
			if err != nil {
				t.Fatal(err)
			}
			var index struct {
				Manifests []struct{ Digest oci.Digest }
			}
			if err := json.Unmarshal(got.Body, &index); err != nil || len(index.Manifests) != 1 || index.Manifests[0].Digest != signature.Digest {
				t.Errorf("%s, %v", got.Body, err)
			}
			if !got.Filtered {
				t.Error("the list is filtered and does not say so")
			}
		})
	}
}

// What nobody has is not remembered: strangers can make up as many names as they like.
func TestListsOfMadeUpNames(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 10)
	h := open(t, origin)
	h.manifest("app", tag("1"), mirror.Miss)
	unheard := oci.DigestOf(oci.SHA256, []byte("unheard of"))
	for _, name := range []string{"made/up", "app"} {
		if _, err := h.Referrers(t.Context(), repository(t, name), unheard, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if page, err := h.Tags(t.Context(), repository(t, "app"), 10, "zzz"); err != nil || len(page.Tags) > 0 {
		t.Errorf("%+v, %v", page, err)
	}
	if n := h.gauge("mirror_catalog_repositories"); n != 1 {
		t.Errorf("%v repositories are remembered, want 1", n)
	}
	if n := h.gauge("mirror_catalog_lists"); n != 0 {
		t.Errorf("%v lists are remembered, want none", n)
	}
	origin.Reset()
	for range 3 {
		if _, err := h.Referrers(t.Context(), repository(t, "app"), image.Digest, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := origin.Count(upstreamtest.Referrers, ""); n != 1 {
		t.Errorf("referrers of a known digest cost %d requests, want 1", n)
	}
}

// A list that has become empty is not remembered as it was before.
func TestListBecomesEmpty(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.AddImage("app", "1", 10)
	h := open(t, origin)
	body, hourAgo := []byte(`{"Tags":["1"],"More":false,"Warning":""}`), time.Now().Add(-time.Hour)
	h.names.SetList(repository(t, "app"), "tags?last=&n=10", catalog.List{Body: body, CheckedAt: hourAgo})
	origin.Untag("app", "1")
	for range 2 {
		if page, err := h.Tags(t.Context(), repository(t, "app"), 10, ""); err != nil || len(page.Tags) > 0 {
			t.Errorf("%+v, %v", page, err)
		}
		origin.Stop() // the second time it is remembered
	}
}

// A list serves an outage as long as a tag does, and no longer.
func TestListStale(t *testing.T) {
	for name, c := range map[string]struct {
		age, staleFor time.Duration
		served        bool
	}{
		"yesterday's": {24 * time.Hour, 168 * time.Hour, true},
		"last year's": {365 * 24 * time.Hour, 168 * time.Hour, false},
		"from ahead":  {-24 * time.Hour, 168 * time.Hour, true},
		"never stale": {time.Hour, time.Nanosecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			h := open(t, origin, func(u *upstream.Config, _ *cacheConfig) { u.Tags.StaleFor = c.staleFor })
			body := []byte(`{"Tags":["a"],"More":false,"Warning":""}`)
			h.names.SetList(repository(t, "app"), "tags?last=&n=10", catalog.List{Body: body, CheckedAt: time.Now().Add(-c.age)})
			origin.Stop()
			page, err := h.Tags(t.Context(), repository(t, "app"), 10, "")
			if served := err == nil && slices.Equal(page.Tags, []string{"a"}) && page.Warning != ""; served != c.served {
				t.Errorf("%+v, %v", page, err)
			}
		})
	}
}
