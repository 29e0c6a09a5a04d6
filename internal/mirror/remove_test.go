package mirror_test

import (
	"errors"
	"slices"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

func diskConfig(t *testing.T) cache.Config { return cachetest.Config(t) }

// remove removes what must be there.
func (h *house) remove(text string) mirror.Freed {
	h.t.Helper()
	freed, err := h.Remove(h.subject(text))
	if err != nil {
		h.t.Fatal(err)
	}
	return freed
}

// wantHeld fails the test unless exactly the given contents are held.
func (h *house) wantHeld(want ...oci.Digest) {
	h.t.Helper()
	var got []oci.Digest
	for _, c := range h.contents(mirror.Selection{}) {
		got = append(got, c.Digest)
	}
	slices.SortFunc(got, oci.Digest.Compare)
	slices.SortFunc(want, oci.Digest.Compare)
	if got = slices.Compact(got); !slices.Equal(got, slices.Compact(want)) {
		h.t.Errorf("held are %v, want %v", got, want)
	}
}

// everything lists the digests of images.
func everything(images ...upstreamtest.Image) (all []oci.Digest) {
	for _, i := range images {
		all = append(all, i.Digest, i.Config.Digest)
		for _, l := range i.Layers {
			all = append(all, l.Digest)
		}
	}
	return all
}

// bring pulls an image by tag, whatever of it is here already.
func (h *house) bring(repo, named string, image upstreamtest.Image) {
	h.t.Helper()
	if named != "" {
		if _, err := h.Manifest(h.t.Context(), repository(h.t, repo), tag(named)); err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := h.Manifest(h.t.Context(), repository(h.t, repo), digest(image.Digest)); err != nil {
		h.t.Fatal(err)
	}
	for _, d := range everything(image)[1:] {
		b, err := h.Blob(h.t.Context(), repository(h.t, repo), d)
		if err != nil {
			h.t.Fatal(err)
		}
		_ = b.Close() // the fill goes on
	}
	h.settle()
}

func TestRemoveTag(t *testing.T) {
	origin := upstreamtest.New(t)
	first := origin.AddImage("app", "1", 1000, 2000)
	second := origin.AddImageOver("app", "2", first.Layers[:1], 3000)
	origin.Tag("app", "same", second.Digest)
	h := open(t, origin)
	h.bring("app", "1", first)
	h.bring("app", "2", second)
	h.bring("app", "same", second)

	want := mirror.Freed{Blobs: 3, Bytes: sizeOf(first) - 1000}
	if got := h.remove("app:1"); got != want {
		t.Errorf("freed %+v, want %+v: the shared layer stays", got, want)
	}
	h.wantHeld(everything(second)...)
	if _, err := h.Remove(h.subject("app:1")); !errors.Is(err, mirror.ErrNotHeld) {
		t.Errorf("the second time: %v", err)
	}
	if got := h.remove("app:2"); got != (mirror.Freed{}) {
		t.Errorf("freed %+v of what another tag names", got)
	}
	if got, want := h.remove("app:same"), (mirror.Freed{Blobs: 4, Bytes: sizeOf(second)}); got != want {
		t.Errorf("freed %+v, want %+v", got, want)
	}
	h.wantHeld()
	if links := h.names.Links(repository(t, "app")); len(links) != 0 {
		t.Errorf("%d links are left", len(links))
	}
	h.bring("app", "1", first) // it comes back like anything else
	h.wantHeld(everything(first)...)
}

// TestRemoveAcrossRepositories removes an image that another repository has, too, and one that belongs to an index.
func TestRemoveAcrossRepositories(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	origin.AddImageOver("copy", "", image.Layers)
	copied := upstreamtest.Image{Digest: origin.AddManifest("copy", "1", image.MediaType, image.Manifest), Config: image.Config, Layers: image.Layers}
	origin.AddBlob("copy", image.Config.Bytes)
	h := open(t, origin)
	h.bring("app", "1", image)
	h.bring("copy", "1", copied)
	if got := h.remove("app:1"); got != (mirror.Freed{}) {
		t.Errorf("freed %+v of what another repository names", got)
	}
	index := origin.AddIndex("app", "all", image)
	h.manifest("app", tag("all"), mirror.Miss)
	if got := h.remove("copy:1"); got != (mirror.Freed{}) {
		t.Errorf("freed %+v of what an index refers to", got)
	}
	if got, want := h.remove("app:all"), (mirror.Freed{Blobs: 4, Bytes: sizeOf(image) + int64(len(index.Manifest))}); got != want {
		t.Errorf("freed %+v, want %+v", got, want)
	}
	h.wantHeld()
}

func TestRemoveDigest(t *testing.T) {
	origin := upstreamtest.New(t)
	first := origin.AddImage("app", "1", 1000, 2000)
	second := origin.AddImageOver("app", "2", first.Layers[:1], 3000)
	h := open(t, origin)
	h.bring("app", "1", first)
	h.bring("app", "2", second)
	if got, want := h.remove(first.Layers[1].Digest.String()), (mirror.Freed{Blobs: 1, Bytes: 2000}); got != want {
		t.Errorf("a layer: freed %+v, want %+v", got, want)
	}
	if got := h.image("app:1"); got.State != mirror.Partial {
		t.Errorf("without a layer the image is %+v", got)
	}
	if got, want := h.remove("app@"+first.Digest.String()), (mirror.Freed{Blobs: 2, Bytes: sizeOf(first) - 3000}); got != want {
		t.Errorf("a manifest that a tag names: freed %+v, want %+v", got, want)
	}
	h.wantHeld(everything(second)...)
	f := func(text string) {
		t.Helper()
		if _, err := h.Remove(h.subject(text)); !errors.Is(err, mirror.ErrNotHeld) {
			t.Errorf("%s: %v", text, err)
		}
	}
	f(first.Digest.String())
	f("app@" + first.Digest.String())
	f("stranger@" + second.Digest.String())
	f("stranger:1")
	h.wantHeld(everything(second)...)
}

func TestRemoveRepository(t *testing.T) {
	origin := upstreamtest.New(t)
	first := origin.AddImage("app", "1", 1000, 2000)
	second := origin.AddImageOver("other", "1", first.Layers[:1], 3000)
	h := open(t, origin)
	h.bring("app", "1", first)
	h.bring("other", "1", second)
	got, err := h.RemoveRepository(repository(t, "app"))
	if want := (mirror.Freed{Blobs: 3, Bytes: sizeOf(first) - 1000}); err != nil || got != want {
		t.Errorf("freed %+v, %v, want %+v", got, err, want)
	}
	h.wantHeld(everything(second)...)
	if left := h.Repositories(); len(left) != 1 || left[0] != repository(t, "other") {
		t.Errorf("known are %v", left)
	}
	if _, err := h.RemoveRepository(repository(t, "app")); !errors.Is(err, mirror.ErrNotHeld) {
		t.Errorf("the second time: %v", err)
	}
	h.pin("other:1")
	if _, err := h.RemoveRepository(repository(t, "other")); !errors.Is(err, mirror.ErrPinned) {
		t.Errorf("pinned: %v", err)
	}
}

// TestRemoveDuringAFill removes a tag while one of its layers arrives: the reader gets everything.
func TestRemoveDuringAFill(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 2<<20)
	h := open(t, origin)
	h.manifest("app", tag("1"), mirror.Miss)
	b, err := h.Blob(t.Context(), repository(t, "app"), image.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h.remove("app:1")
	sum := image.Layers[0].Digest.Hash()
	if _, err := b.WriteRange(sum, 0, -1); err != nil || !image.Layers[0].Digest.Matches(sum) {
		t.Errorf("the reader got wrong content, %v", err)
	}
}

func TestUnreferenced(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	h := open(t, origin)
	h.blob("app", image.Layers[0], mirror.Miss) // without its manifest
	h.settle()
	if blobs, bytes := h.Unreferenced(); blobs != 1 || bytes != 1000 {
		t.Errorf("got %d blobs with %d bytes, want the layer", blobs, bytes)
	}
	h.manifest("app", tag("1"), mirror.Miss)
	if blobs, bytes := h.Unreferenced(); blobs != 0 || bytes != 0 {
		t.Errorf("got %d blobs with %d bytes, want none: the manifest is here", blobs, bytes)
	}
}

func TestPruneNames(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	kept := origin.AddImage("kept", "1", 1000)
	h := open(t, origin)
	h.bring("app", "1", image)
	h.bring("kept", "1", kept)
	h.remove(image.Digest.String())
	h.manifest("app", tag("1"), mirror.Miss) // links what is not here
	h.remove(image.Digest.String())
	for range 2 {
		h.PruneNames()
	}
	if links := h.names.Links(repository(t, "app")); len(links) != 0 {
		t.Errorf("%d links are left of what is gone", len(links))
	}
	if _, ok := h.names.Tag(repository(t, "app"), "1"); !ok {
		t.Error("a tag that may still be served stale was forgotten")
	}
	if links := h.names.Links(repository(t, "kept")); len(links) != 3 {
		t.Errorf("%d links are left of what is here, want 3", len(links))
	}
	h.bring("app", "1", image)
	h.wantHeld(everything(image, kept)...)
}
