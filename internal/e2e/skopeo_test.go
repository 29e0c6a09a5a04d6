//go:build e2e

package e2e_test

import (
	"context"
	"path/filepath"
	"testing"
)

// skopeo copies images into the storage of a podman, which runs them.
type skopeo struct {
	*podman
}

func newSkopeo(t *testing.T, mirrorURL string) puller {
	t.Helper()
	return &skopeo{podmanIn(t, tempDir(t), mirrorURL)}
}

// storageName is the name that an image copied by skopeo gets. Names with a digest cannot be written into the storage.
const storageName = "docker.io/library/copied:latest"

func (s *skopeo) pull(t *testing.T, ref string) {
	t.Helper()
	storage := "containers-storage:[vfs@" + filepath.Join(s.dir, "root") + "+" + filepath.Join(s.dir, "run") + "]"
	if err := s.copy(t.Context(), ref, storage+storageName); err != nil {
		t.Fatal(err)
	}
	s.last = storageName
}

// copy copies an image to any place that skopeo knows.
func (s *skopeo) copy(ctx context.Context, ref, destination string) error {
	_, err := try(ctx, s.env, "skopeo", "--insecure-policy", "--registries-conf", filepath.Join(s.dir, "registries.conf"),
		"copy", "--quiet", "docker://"+ref, destination)
	return err
}
