package mirror_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// subject reads what an operator would type.
func (h *house) subject(text string) mirror.Subject {
	h.t.Helper()
	s, err := h.ParseSubject(text)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// image returns the one image of a repository with a tag, or with a digest and no tag.
func (h *house) image(text string) mirror.Image {
	h.t.Helper()
	want := h.subject(text)
	images := h.Images(want.Repository)
	at := slices.IndexFunc(images, func(i mirror.Image) bool { return i.Subject() == want })
	if at < 0 {
		h.t.Fatalf("%s is not in the list: %+v", want, images)
	}
	return images[at]
}

// sizeOf is what an image takes when all of it is held.
func sizeOf(image upstreamtest.Image) int64 {
	size := int64(len(image.Manifest)) + image.Config.Size
	for _, l := range image.Layers {
		size += l.Size
	}
	return size
}

func TestParseSubject(t *testing.T) {
	origin := upstreamtest.New(t)
	open := func(registries ...upstream.Config) *house {
		for i := range registries {
			registries[i].Endpoints = []string{origin.URL}
		}
		return openAll(t, origin, diskConfig(t), registries...)
	}
	hub := open(upstream.Config{Registry: "docker.io", Default: true}, upstream.Config{Registry: "corp"})
	d := oci.DigestOf(oci.SHA256, nil).String()
	f := func(h *house, text, want string) {
		t.Helper()
		if got, err := h.ParseSubject(text); err != nil || got.String() != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	f(hub, "alpine:3.20", "docker.io/library/alpine:3.20")
	f(hub, "alpine", "docker.io/library/alpine:latest")
	f(hub, "org/app", "docker.io/org/app:latest")
	f(hub, "index.docker.io/alpine:3.20", "docker.io/library/alpine:3.20")
	f(hub, "ghcr.io/org/app@"+d, "ghcr.io/org/app@"+d)
	f(hub, "corp/app:1", "corp/app:1")
	f(hub, d, d)

	lone := open(upstream.Config{Registry: "corp"})
	for _, text := range []string{"alpine", "", "sha256:123", "Corp/App", "corp/app:", "corp/app@sha256:1"} {
		if got, err := lone.ParseSubject(text); err == nil {
			t.Errorf("%q: got %q, want a refusal", text, got)
		}
	}
}

func TestImages(t *testing.T) {
	origin := upstreamtest.New(t)
	whole := origin.AddImage("app", "1", 1000, 2000)
	half := origin.AddImage("app", "2", 3000, 4000)
	loose := origin.AddImage("app", "", 5000)
	h := open(t, origin)
	if got := h.Images(repository(t, "app")); len(got) != 0 {
		t.Errorf("nothing was pulled, and %v is there", got)
	}
	h.manifest("app", tag("1"), mirror.Miss)
	h.blob("app", whole.Config, mirror.Miss)
	h.blob("app", whole.Layers[0], mirror.Miss)
	h.blob("app", whole.Layers[1], mirror.Miss)
	h.manifest("app", tag("2"), mirror.Miss)
	h.blob("app", half.Layers[1], mirror.Miss)
	h.pull("app", loose)

	images := h.Images(repository(t, "app"))
	if len(images) != 3 || images[0].Tag != "1" || images[1].Tag != "2" || images[2].Tag != "" {
		t.Fatalf("got %+v, want two tags and a manifest without", images)
	}
	f := func(got mirror.Image, image upstreamtest.Image, state mirror.State, size int64, blobs mirror.Count) {
		t.Helper()
		if got.Descriptor.Digest != image.Digest || got.State != state || got.Size != size || got.Blobs != blobs || got.Manifests != (mirror.Count{Held: 1, Known: 1}) {
			t.Errorf("%s is %+v, want %s, %d bytes, %+v", got.Subject(), got, state, size, blobs)
		}
		if got.Pinned || got.Stored.IsZero() || got.Used.IsZero() {
			t.Errorf("%s is %+v", got.Subject(), got)
		}
	}
	f(images[0], whole, mirror.Complete, sizeOf(whole), mirror.Count{Held: 3, Known: 3})
	f(images[1], half, mirror.Partial, int64(len(half.Manifest))+4000, mirror.Count{Held: 1, Known: 3})
	f(images[2], loose, mirror.Complete, sizeOf(loose), mirror.Count{Held: 2, Known: 2})
	if images[0].CheckedAt.IsZero() || !images[2].CheckedAt.IsZero() {
		t.Error("tags were checked, and nothing else was")
	}
	h.remove(whole.Digest.String())
	if got := h.image("app:1"); got.State != mirror.Absent || got.Size != 0 || !got.Stored.IsZero() {
		t.Errorf("without its content the tag is %+v", got)
	}
}

// TestImagesOfAnIndex pulls one platform of two: the index is complete, its images have no line of their own, and what the
// other platform consists of is not known.
func TestImagesOfAnIndex(t *testing.T) {
	origin := upstreamtest.New(t)
	amd64, arm64 := origin.AddImage("app", "", 1000), origin.AddImage("app", "", 2000)
	index := origin.AddIndex("app", "1", amd64, arm64)
	h := open(t, origin)
	h.manifest("app", tag("1"), mirror.Miss)
	if got := h.image("app:1"); got.State != mirror.Partial {
		t.Errorf("an index alone is %+v", got)
	}
	h.pull("app", amd64)
	want := mirror.Holding{
		State: mirror.Complete, Size: sizeOf(amd64) + int64(len(index.Manifest)),
		Manifests: mirror.Count{Held: 2, Known: 3}, Blobs: mirror.Count{Held: 2, Known: 2},
	}
	images := h.Images(repository(t, "app"))
	got := images[0].Holding
	got.Stored, got.Used = time.Time{}, time.Time{}
	if len(images) != 1 || got != want {
		t.Errorf("got %d images, the first %+v, want %+v alone", len(images), got, want)
	}
}

func TestContents(t *testing.T) {
	origin := upstreamtest.New(t)
	first := origin.AddImage("app", "1", 1000, 2000)
	second := origin.AddImageOver("other", "1", first.Layers[:1], 3000)
	h := open(t, origin)
	h.pull("app", first)
	h.manifest("other", digest(second.Digest), mirror.Miss)
	h.blob("other", second.Layers[1], mirror.Miss)
	h.settle()
	app, other := repository(t, "app"), repository(t, "other")
	want := map[oci.Digest][]oci.Repository{
		first.Digest: {app}, first.Config.Digest: {app}, first.Layers[0].Digest: {app, other}, first.Layers[1].Digest: {app},
		second.Digest: {other}, second.Layers[1].Digest: {other},
	}
	f := func(s mirror.Selection, want map[oci.Digest][]oci.Repository) {
		t.Helper()
		got := h.contents(s)
		for _, c := range got {
			if !slices.Equal(c.Repositories, want[c.Digest]) {
				t.Errorf("%+v: %s is held for %v, want %v", s, c.Digest, c.Repositories, want[c.Digest])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%+v: got %d contents, want %d", s, len(got), len(want))
		}
	}
	f(mirror.Selection{}, want)
	f(mirror.Selection{Unreferenced: true}, nil)
	f(mirror.Selection{Repository: other}, map[oci.Digest][]oci.Repository{
		first.Layers[0].Digest: {app, other}, second.Digest: {other}, second.Layers[1].Digest: {other},
	})
	var paged []oci.Digest
	for s := (mirror.Selection{Limit: 4}); ; s.After = paged[len(paged)-1] {
		page := h.contents(s)
		if len(page) == 0 {
			break
		}
		for _, c := range page {
			paged = append(paged, c.Digest)
		}
	}
	if len(paged) != len(want) || !slices.IsSortedFunc(paged, oci.Digest.Compare) {
		t.Errorf("pages have %v, want %d contents in order", paged, len(want))
	}
	stop := errors.New("stop")
	if err := h.Contents(mirror.Selection{}, func(mirror.Content) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the visitor's error", err)
	}
}

// contents collects a selection.
func (h *house) contents(s mirror.Selection) (all []mirror.Content) {
	h.t.Helper()
	if err := h.Contents(s, func(c mirror.Content) error { all = append(all, c); return nil }); err != nil {
		h.t.Fatal(err)
	}
	return all
}

func TestFillsAndUpstreams(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("app", "1", 2<<20).Layers[0]
	h := open(t, origin)
	h.manifest("app", tag("1"), mirror.Miss)
	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{StallAfter: 1 << 20})
	b, err := h.Blob(t.Context(), repository(t, "app"), layer.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	fills := h.Fills()
	if len(fills) != 1 || fills[0].Digest != layer.Digest || fills[0].Size != 2<<20 || !slices.Equal(fills[0].Repositories, []oci.Repository{repository(t, "app")}) {
		t.Errorf("got %+v, want the layer", fills)
	}
	if ups := h.Upstreams(); len(ups) != 1 || ups[0].Registry != "registry.test" || !ups[0].Available {
		t.Errorf("got %+v, want the one upstream, available", ups)
	}
	origin.Stop() // which ends the fill
}
