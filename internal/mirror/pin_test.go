package mirror_test

import (
	"errors"
	"strings"
	"testing"

	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

func (h *house) pin(text string) mirror.Pinned {
	h.t.Helper()
	pinned, err := h.Pin(h.subject(text))
	if err != nil {
		h.t.Fatal(err)
	}
	return pinned
}

func (h *house) unpin(text string) mirror.Pinned {
	h.t.Helper()
	released, err := h.Unpin(h.subject(text))
	if err != nil {
		h.t.Fatal(err)
	}
	return released
}

// wantPinned fails the test unless of what is held exactly the given contents are pinned.
func (h *house) wantPinned(want ...oci.Digest) {
	h.t.Helper()
	expected := make(map[oci.Digest]bool)
	for _, d := range want {
		expected[d] = true
	}
	for _, c := range h.contents(mirror.Selection{}) {
		if c.Pinned != expected[c.Digest] {
			h.t.Errorf("%s is pinned: %v, want the opposite", c.Digest, c.Pinned)
		}
	}
}

func TestPin(t *testing.T) {
	origin := upstreamtest.New(t)
	first := origin.AddImage("app", "1", 1000, 2000)
	second := origin.AddImageOver("app", "2", first.Layers[:1], 3000)
	h := open(t, origin)
	h.bring("app", "1", first)
	h.bring("app", "2", second)

	if got, want := h.pin("app:1"), (mirror.Pinned{Digest: first.Digest, Blobs: 4, Bytes: sizeOf(first)}); got != want {
		t.Errorf("pinned %+v, want %+v", got, want)
	}
	h.wantPinned(everything(first)...)
	if !h.image("app:1").Pinned || h.image("app:2").Pinned {
		t.Error("the list says otherwise")
	}
	for _, text := range []string{"app:1", first.Digest.String(), first.Layers[0].Digest.String()} {
		if _, err := h.Remove(h.subject(text)); !errors.Is(err, mirror.ErrPinned) {
			t.Errorf("removal of %s: %v", text, err)
		}
	}
	if got, want := h.remove("app:2"), (mirror.Freed{Blobs: 3, Bytes: sizeOf(second) - 1000}); got != want {
		t.Errorf("freed %+v, want %+v: what the pinned one shares stays", got, want)
	}
	h.unpin("app:1")
	h.wantPinned()
	h.remove("app:1")
	h.wantHeld()
}

// TestUnpinSharedContent takes one of two pins back that have a layer in common.
func TestUnpinSharedContent(t *testing.T) {
	origin := upstreamtest.New(t)
	first := origin.AddImage("app", "1", 1000, 2000)
	second := origin.AddImageOver("app", "2", first.Layers[:1], 3000)
	h := open(t, origin)
	h.bring("app", "1", first)
	h.bring("app", "2", second)
	h.pin("app:1")
	h.pin("app:2")
	if got, want := h.unpin("app:1"), (mirror.Pinned{Digest: first.Digest, Blobs: 3, Bytes: sizeOf(first) - 1000}); got != want {
		t.Errorf("released %+v, want %+v", got, want)
	}
	h.wantPinned(everything(second)...)
	if _, err := h.Unpin(h.subject("app:1")); !errors.Is(err, mirror.ErrNotPinned) {
		t.Errorf("without a pin: %v", err)
	}
	shared := h.subject(first.Layers[0].Digest.String())
	if _, err := h.Unpin(shared); !errors.Is(err, mirror.ErrNotPinned) || !strings.Contains(err.Error(), second.Digest.String()) {
		t.Errorf("a layer of what is pinned: %v", err)
	}
	h.wantPinned(everything(second)...)
}

// TestPinIndex pins an index of which one platform is here: that is pinned, and the other when it comes.
func TestPinIndex(t *testing.T) {
	origin := upstreamtest.New(t)
	amd64, arm64 := origin.AddImage("app", "", 1000), origin.AddImage("app", "", 2000)
	index := origin.AddIndex("app", "1", amd64, arm64)
	h := open(t, origin)
	h.bring("app", "1", upstreamtest.Image{Digest: index.Digest, Config: amd64.Config})
	h.bring("app", "", amd64)
	h.pin("app:1")
	h.wantPinned(append(everything(amd64), index.Digest)...)
	h.bring("app", "", arm64)
	h.wantPinned(append(everything(amd64, arm64), index.Digest)...)
	if _, err := h.Unpin(h.subject(arm64.Digest.String())); !errors.Is(err, mirror.ErrNotPinned) {
		t.Errorf("one platform of a pinned index: %v", err)
	}
	h.unpin("app:1")
	h.wantPinned()
}

func TestPinWhatIsNotHeld(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 1000)
	h := open(t, origin)
	f := func(text string) {
		t.Helper()
		if _, err := h.Pin(h.subject(text)); !errors.Is(err, mirror.ErrNotHeld) {
			t.Errorf("pin of %s: %v", text, err)
		}
		if _, err := h.Unpin(h.subject(text)); !errors.Is(err, mirror.ErrNotHeld) {
			t.Errorf("unpin of %s: %v", text, err)
		}
	}
	f("app:1")
	f(image.Digest.String())
	h.manifest("app", tag("1"), mirror.Miss)
	h.remove(image.Digest.String())
	f("app:1")
}
