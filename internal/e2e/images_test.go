//go:build e2e

package e2e_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// image is what a scenario knows of an image that it pulls: the truth to compare with.
type image struct {
	repository string
	tag        string
	digest     string  // of what the tag names
	config     layer   // of the platform that the tests run on
	layers     []layer // likewise
}

type layer struct {
	digest string
	size   int64
}

// size is the bytes of all layers.
func (i *image) size() int64 {
	var n int64
	for _, l := range i.layers {
		n += l.size
	}
	return n
}

func (i *image) blobPath(l layer) string { return "/v2/" + i.repository + "/blobs/" + l.digest }

func (i *image) manifestPath(reference string) string {
	return "/v2/" + i.repository + "/manifests/" + reference
}

// describe reads what the scenarios need to know from an image.
func describe(repository, tag string, named v1.Hash, img v1.Image) (*image, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	out := &image{repository: repository, tag: tag, digest: named.String()}
	out.config = layer{m.Config.Digest.String(), m.Config.Size}
	for _, l := range m.Layers {
		out.layers = append(out.layers, layer{l.Digest.String(), l.Size})
	}
	return out, nil
}

// reference names a tag or digest in a registry that speaks plain HTTP.
func reference(addr, repository, ref string) (name.Reference, error) {
	separator := ":"
	if strings.Contains(ref, ":") {
		separator = "@"
	}
	r, err := name.ParseReference(addr+"/"+repository+separator+ref, name.Insecure)
	if err != nil {
		return nil, fmt.Errorf("parse reference: %w", err)
	}
	return r, nil
}

// pushRandom pushes an image of layers that compress to nothing less, under a repository of its own.
func pushRandom(t *testing.T, r *registry, repository string, layers int, layerSize int64, opts ...remote.Option) *image {
	t.Helper()
	img, err := random.Image(layerSize, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference(r.addr, repository, "latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, append(opts, remote.WithContext(t.Context()))...); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	out, err := describe(repository, "latest", digest, img)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// buildDebian builds library/debian as a user would: a Debian root file system under four small layers, pushed by
// buildah, and an index that holds it for this platform and another image for another one. The tag bookworm names the
// index.
func (s *suite) buildDebian() (*image, error) {
	registry, err := s.registry()
	if err != nil {
		return nil, err
	}
	rootfs, err := debianRootfs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.dir, "build")
	if err != nil {
		return nil, fmt.Errorf("create build directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := buildLayers(dir, rootfs, "docker://"+registry.addr+"/library/debian:single"); err != nil {
		return nil, err
	}
	return indexDebian(registry)
}

// debianRootfs returns the directory of a minimal Debian, built on the first run. The directory appears under its final
// name only when complete.
func debianRootfs() (string, error) {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = "/var/cache"
	}
	final := filepath.Join(cache, "mirror-e2e", "bookworm")
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return "", fmt.Errorf("create cache directory: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(final), "building-")
	if err != nil {
		return "", fmt.Errorf("create root file system: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := debootstrap(filepath.Join(dir, "root")); err != nil {
		return "", err
	}
	return final, os.Rename(filepath.Join(dir, "root"), final)
}

// debootstrap installs Debian below dir from the place that this machine's apt is configured for.
func debootstrap(dir string) error {
	source, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Created-By: Packages", "Label: Debian").Output()
	if err != nil {
		return fmt.Errorf("ask apt for its source: %w", err)
	}
	sources := strings.Fields(string(source))
	if len(sources) == 0 {
		return errors.New("apt has fetched no Debian package lists: run internal/e2e/install")
	}
	out, err := exec.Command("debootstrap", "--variant=minbase", "bookworm", dir, sources[0]).CombinedOutput()
	if err != nil {
		return fmt.Errorf("debootstrap: %w\n%s", err, out)
	}
	return nil
}

// buildLayers commits one image after another, each a layer more than the one before, and pushes the last. The root file
// system comes last because the vfs storage copies all lower layers for each one above.
func buildLayers(dir, rootfs, destination string) error {
	from := "scratch"
	for i := range 4 {
		content := filepath.Join(dir, fmt.Sprint("layer", i))
		if err := writeRandom(filepath.Join(content, "opt", fmt.Sprint("data", i)), 1<<20); err != nil {
			return err
		}
		if err := addLayer(dir, from, content, fmt.Sprint("part", i)); err != nil {
			return err
		}
		from = fmt.Sprint("part", i)
	}
	if err := addLayer(dir, from, rootfs, "debian"); err != nil {
		return err
	}
	_, err := buildah(dir, "push", "--tls-verify=false", "debian", destination)
	return err
}

func addLayer(dir, from, content, tag string) error {
	container, err := buildah(dir, "from", "--pull-never", from)
	if err != nil {
		return err
	}
	if _, err := buildah(dir, "add", container, content, "/"); err != nil {
		return err
	}
	_, err = buildah(dir, "commit", "--rm", container, tag)
	return err
}

// buildah runs with storage of its own and returns the last line that it prints, which names what it made.
func buildah(dir string, args ...string) (string, error) {
	argv := append([]string{"--root", filepath.Join(dir, "storage"), "--runroot", filepath.Join(dir, "run")}, args...)
	cmd := exec.Command("buildah", argv...)
	cmd.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot", "STORAGE_DRIVER=vfs")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("buildah %s: %w\n%s", args[0], err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}

func writeRandom(file string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("create layer: %w", err)
	}
	data := make([]byte, size)
	_, _ = rand.Read(data) // It never fails.
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}

// randomFor makes an image for one architecture.
func randomFor(architecture string, layers int, layerSize int64) (v1.Image, error) {
	img, err := random.Image(layerSize, int64(layers))
	if err != nil {
		return nil, fmt.Errorf("make image: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	return mutate.ConfigFile(img, config)
}

// indexOf makes a multi-platform image of one image for each architecture.
func indexOf(images map[string]v1.Image) v1.ImageIndex {
	index := v1.ImageIndex(empty.Index)
	for _, architecture := range slices.Sorted(maps.Keys(images)) {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        images[architecture],
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	return index
}

// indexDebian pushes the index that the tag bookworm names.
func indexDebian(r *registry) (*image, error) {
	single, err := reference(r.addr, "library/debian", "single")
	if err != nil {
		return nil, err
	}
	debian, err := remote.Image(single)
	if err != nil {
		return nil, fmt.Errorf("read back image: %w", err)
	}
	other, err := randomFor("s390x", 2, 64<<10)
	if err != nil {
		return nil, err
	}
	index := indexOf(map[string]v1.Image{runtime.GOARCH: debian, "s390x": other})
	tag, err := reference(r.addr, "library/debian", "bookworm")
	if err != nil {
		return nil, err
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		return nil, fmt.Errorf("push index: %w", err)
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, fmt.Errorf("read index digest: %w", err)
	}
	return describe("library/debian", "bookworm", digest, debian)
}
