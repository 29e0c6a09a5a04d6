package mirror_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

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
