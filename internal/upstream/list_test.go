package upstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"testing"

	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func TestTags(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "a")
	for _, name := range []string{"b", "c", "d"} {
		origin.Tag("app", name, image.Digest)
	}
	r := connect(t, origin, nil)
	f := func(n int, last string, want []string, more bool) {
		t.Helper()
		page, err := r.Tags(t.Context(), "app", n, last)
		if err != nil || !reflect.DeepEqual(page.Tags, want) || page.More != more {
			t.Errorf("n=%d last=%q: got %v %v, %v, want %v %v", n, last, page.Tags, page.More, err, want, more)
		}
	}
	f(0, "", []string{"a", "b", "c", "d"}, false)
	f(2, "", []string{"a", "b"}, true)
	f(2, "b", []string{"c", "d"}, false)
	f(1, "b", []string{"c"}, true)
	f(0, "d", []string{}, false)
	origin.SetPageSize(3)
	f(0, "", []string{"a", "b", "c"}, true)
}

func TestTagsAnswers(t *testing.T) {
	f := func(name, body string, n int, last string, want []string, more bool, failure error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			origin.Fail(upstreamtest.Tags, -1, upstreamtest.Fault{Status: 200, Body: body})
			page, err := connect(t, origin, nil).Tags(t.Context(), "app", n, last)
			if !errors.Is(err, failure) || !reflect.DeepEqual(page.Tags, want) || page.More != more {
				t.Errorf("got %v %v, %v", page.Tags, page.More, err)
			}
		})
	}
	f("null", `{"name":"app","tags":null}`, 0, "", []string{}, false, nil)
	f("absent", `{"name":"app"}`, 0, "", []string{}, false, nil)
	f("illegal tags", `{"tags":["ok","-bad","also bad","x"]}`, 0, "", []string{"ok", "x"}, false, nil)
	f("n ignored", `{"tags":["a","b","c"]}`, 2, "", []string{"a", "b"}, true, nil)
	f("last ignored", `{"tags":["a","b","c"]}`, 0, "b", []string{"c"}, false, nil)
	f("no JSON", `tags: a, b`, 0, "", nil, false, upstream.ErrWrongContent)
	f("wrong type", `{"tags":"a"}`, 0, "", nil, false, upstream.ErrWrongContent)
}

func TestTagsOfUnknownRepository(t *testing.T) {
	_, err := connect(t, upstreamtest.New(t), nil).Tags(t.Context(), "app", 0, "")
	var status *upstream.StatusError
	if !errors.Is(err, upstream.ErrNotFound) || !errors.As(err, &status) || status.Code != oci.NameUnknown {
		t.Errorf("got %v, want ErrNotFound with NAME_UNKNOWN", err)
	}
}

// listed returns the digests of a list of referrers, after checking its form.
func listed(t *testing.T, page upstream.ReferrersPage) []oci.Digest {
	t.Helper()
	var index struct {
		SchemaVersion int    `json:"schemaVersion"`
		MediaType     string `json:"mediaType"`
		Manifests     []struct {
			Digest oci.Digest `json:"digest"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(page.Body, &index); err != nil {
		t.Fatalf("%s: %v", page.Body, err)
	}
	if index.SchemaVersion != 2 || index.MediaType != oci.MediaTypeImageIndex || index.Manifests == nil {
		t.Errorf("no proper index: %s", page.Body)
	}
	digests := []oci.Digest{}
	for _, m := range index.Manifests {
		digests = append(digests, m.Digest)
	}
	return digests
}

func TestReferrers(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1")
	signature := origin.AddReferrer("app", image.Descriptor(), "application/vnd.example.signature")
	origin.AddReferrer("app", image.Descriptor(), "application/vnd.example.sbom")
	r := connect(t, origin, nil)

	t.Run("all", func(t *testing.T) {
		page, err := r.Referrers(t.Context(), "app", image.Digest, "", "")
		if err != nil || len(listed(t, page)) != 2 || page.Filtered || page.Next != "" {
			t.Errorf("got %+v, %v", page, err)
		}
	})
	t.Run("filtered here, since this upstream does not", func(t *testing.T) {
		page, err := r.Referrers(t.Context(), "app", image.Digest, "application/vnd.example.signature", "")
		if err != nil || !reflect.DeepEqual(listed(t, page), []oci.Digest{signature.Digest}) || !page.Filtered {
			t.Errorf("got %+v, %v", page, err)
		}
	})
	t.Run("none", func(t *testing.T) {
		page, err := r.Referrers(t.Context(), "app", signature.Digest, "", "")
		if err != nil || len(listed(t, page)) != 0 {
			t.Errorf("got %+v, %v", page, err)
		}
	})
	t.Run("pages", func(t *testing.T) {
		origin.SetPageSize(1)
		seen := map[oci.Digest]bool{}
		query := ""
		for range 2 {
			page, err := r.Referrers(t.Context(), "app", image.Digest, "", query)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range listed(t, page) {
				seen[d] = true
			}
			query = page.Next
		}
		if len(seen) != 2 || query != "" {
			t.Errorf("saw %d of 2 referrers, then page %q", len(seen), query)
		}
	})
}

func TestReferrersWithoutAPI(t *testing.T) {
	elsewhere := upstreamtest.New(t)
	f := func(name string, fault upstreamtest.Fault) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			image := origin.AddImage("app", "1")
			artifact := origin.AddReferrer("app", image.Descriptor(), "a/b")
			body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":"m","digest":%q,"size":1,"artifactType":"a/b"},{"mediaType":"m","digest":%q,"size":1,"artifactType":"c/d"}]}`,
				oci.MediaTypeImageIndex, artifact.Digest, image.Config.Digest)
			origin.AddManifest("app", image.Digest.FallbackTag(), oci.MediaTypeImageIndex, []byte(body))
			origin.Fail(upstreamtest.Referrers, -1, fault)
			r := connect(t, origin, nil)
			for range 2 {
				page, err := r.Referrers(t.Context(), "app", image.Digest, "a/b", "")
				if err != nil || !reflect.DeepEqual(listed(t, page), []oci.Digest{artifact.Digest}) || !page.Filtered {
					t.Errorf("got %+v, %v", page, err)
				}
			}
			if page, err := r.Referrers(t.Context(), "app", artifact.Digest, "", ""); err != nil || len(listed(t, page)) != 0 {
				t.Errorf("without the tag: %+v, %v, want an empty list", page, err)
			}
			if n := origin.Count(upstreamtest.Referrers, ""); n != 1 {
				t.Errorf("the API was asked for %d times, want once: its absence is remembered", n)
			}
		})
	}
	f("404", upstreamtest.Fault{Status: 404, Body: "404 page not found"})
	f("405", upstreamtest.Fault{Status: 405})
	f("406", upstreamtest.Fault{Status: 406})
	f("web page", upstreamtest.Fault{HTML: true})
	f("other type", upstreamtest.Fault{Status: 200, Body: "{}"})
	f("redirect elsewhere", upstreamtest.Fault{Redirect: elsewhere.URL + "/org/app"})
	if n := len(elsewhere.Requests()); n != 0 {
		t.Errorf("%d redirects were followed away from the registry", n)
	}
}

func TestReferrersFailures(t *testing.T) {
	f := func(name string, fault upstreamtest.Fault, want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			image := origin.AddImage("app", "1")
			origin.Fail(upstreamtest.Referrers, -1, fault)
			r := connect(t, origin, nil)
			if _, err := r.Referrers(t.Context(), "app", image.Digest, "", ""); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			origin.Heal()
			if _, err := r.Referrers(t.Context(), "app", image.Digest, "", ""); err != nil {
				t.Error(err)
			}
			if n := origin.Count(upstreamtest.Referrers, http.MethodGet); n < 2 {
				t.Error("a failure was taken for the absence of the API")
			}
		})
	}
	f("403", upstreamtest.Fault{Status: 403}, upstream.ErrDenied)
	f("503", upstreamtest.Fault{Status: 503}, upstream.ErrUnavailable)
	f("unknown repository", upstreamtest.Fault{Status: 404, Body: `{"errors":[{"code":"NAME_UNKNOWN"}]}`}, nil)
	f("bad question", upstreamtest.Fault{Status: 400}, nil)
}

func TestReferrersWhenTagIsSomethingElse(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1")
	origin.Tag("app", image.Digest.FallbackTag(), image.Digest)
	origin.DisableReferrers()
	page, err := connect(t, origin, nil).Referrers(t.Context(), "app", image.Digest, "", "")
	if err != nil || len(listed(t, page)) != 0 {
		t.Errorf("got %+v, %v, want an empty list", page, err)
	}
}
