//go:build e2e

package e2e_test

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestImagesAreValid lets go-containerregistry look at every part of images that came through the mirror, when they
// first pass through it and when it holds them.
func TestImagesAreValid(t *testing.T) {
	registry, debian := must(t, shared.registry), must(t, shared.debian)
	g := newGate(t, registry)
	m := startMirror(t, dockerHub(g))
	digest := pushIndex(t, registry, "library/platforms")
	for _, state := range []string{"cold", "warm"} {
		t.Run("index, "+state, func(t *testing.T) { expectValidIndex(t, m, "library/platforms", "latest") })
		t.Run("index by digest, "+state, func(t *testing.T) { expectValidIndex(t, m, "library/platforms", digest) })
	}
	// Once is enough: unpacking a whole Debian takes its time.
	t.Run("Debian", func(t *testing.T) { expectValidImage(t, m, debian.repository, "single") })
	for _, l := range debian.layers {
		expectOnce(t, g, l)
	}
}

// pushIndex pushes an image for three platforms and returns its digest.
func pushIndex(t *testing.T, r *registry, repository string) string {
	t.Helper()
	images := map[string]v1.Image{}
	for _, architecture := range []string{"amd64", "arm64", "s390x"} {
		img, err := randomFor(architecture, 3, 300_000)
		if err != nil {
			t.Fatal(err)
		}
		images[architecture] = img
	}
	index := indexOf(images)
	ref, err := reference(r.addr, repository, "latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func expectValidIndex(t *testing.T, m *mirror, repository, ref string) {
	t.Helper()
	named, err := reference(m.addr, repository, ref)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(named, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
}

func expectValidImage(t *testing.T, m *mirror, repository, ref string) {
	t.Helper()
	named, err := reference(m.addr, repository, ref)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(named, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
}
