package origin

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"mirror/internal/oci"
)

// Image is an image of one platform. Its content follows from its name and sizes alone.
type Image struct {
	// Repository is the name without a registry; the image has the tag "latest" there.
	Repository string
	// Sizes are the lengths of the layers in bytes.
	Sizes []int64

	// What follows is known once the image is made.
	Manifest oci.Digest
	Layers   []oci.Digest
}

// ManifestType is the media type of every manifest here.
const ManifestType = "application/vnd.oci.image.manifest.v1+json"

// Tag is the tag of every image.
const Tag = "latest"

// ManifestPath is the path of the manifest by tag or by digest.
func (i *Image) ManifestPath(reference string) string {
	return "/v2/" + i.Repository + "/manifests/" + reference
}

// LayerPath is the path of the n-th layer.
func (i *Image) LayerPath(n int) string { return i.blobPath(i.Layers[n]) }

func (i *Image) blobPath(d oci.Digest) string { return "/v2/" + i.Repository + "/blobs/" + d.String() }

// Make makes the files of an image below dir, as they are asked for: dir/v2/<repository>/blobs/<digest> and so on. What
// is there from an earlier run is kept; a file has its name only once it is whole.
func (i *Image) Make(dir string) error {
	if known, err := i.load(dir); known || err != nil {
		return err
	}
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}`)
	manifest := document{SchemaVersion: 2, MediaType: ManifestType, Config: descriptorOf("application/vnd.oci.image.config.v1+json", config)}
	if err := i.write(dir, i.blobPath(manifest.Config.Digest), config); err != nil {
		return err
	}
	for n, size := range i.Sizes {
		layer, err := i.makeLayer(dir, n, size)
		if err != nil {
			return fmt.Errorf("make layer %d of %s: %w", n, i.Repository, err)
		}
		manifest.Layers = append(manifest.Layers, layer)
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := i.write(dir, i.ManifestPath(oci.DigestOf(oci.SHA256, text).String()), text); err != nil {
		return err
	}
	if err := i.write(dir, i.ManifestPath(Tag), text); err != nil { // the last, so that an image with a tag is whole
		return err
	}
	return i.take(text)
}

// document is a manifest as it is written.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type descriptor struct {
	MediaType string     `json:"mediaType"`
	Digest    oci.Digest `json:"digest"`
	Size      int64      `json:"size"`
}

func descriptorOf(mediaType string, content []byte) descriptor {
	return descriptor{mediaType, oci.DigestOf(oci.SHA256, content), int64(len(content))}
}

// load takes the image of an earlier run, if there is one of these sizes.
func (i *Image) load(dir string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, i.ManifestPath(Tag)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := i.take(text); err != nil {
		return false, err
	}
	return true, nil
}

// take learns the digests from the manifest.
func (i *Image) take(text []byte) error {
	var m document
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("read manifest of %s: %w", i.Repository, err)
	}
	if len(m.Layers) != len(i.Sizes) {
		return fmt.Errorf("image %s has %d layers, want %d: remove it and it will be made anew", i.Repository, len(m.Layers), len(i.Sizes))
	}
	i.Manifest, i.Layers = oci.DigestOf(oci.SHA256, text), nil
	for n, layer := range m.Layers {
		if layer.Size != i.Sizes[n] {
			return fmt.Errorf("layer %d of %s has %d bytes, want %d: remove the image and it will be made anew", n, i.Repository, layer.Size, i.Sizes[n])
		}
		i.Layers = append(i.Layers, layer.Digest)
	}
	return nil
}

// makeLayer writes bytes that nothing compresses and that no other layer has.
func (i *Image) makeLayer(dir string, n int, size int64) (d descriptor, err error) {
	folder := filepath.Join(dir, "v2", i.Repository, "blobs")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return d, err
	}
	file, err := os.CreateTemp(folder, "part-")
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	hash := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(file, hash), 1<<20)
	if _, err := io.CopyN(out, rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%s %d", i.Repository, n))), size); err != nil {
		return d, err
	}
	if err := out.Flush(); err != nil {
		return d, err
	}
	d = descriptor{"application/vnd.oci.image.layer.v1.tar", oci.MustParseDigest(fmt.Sprintf("sha256:%x", hash.Sum(nil))), size}
	if err := file.Chmod(0o644); err != nil {
		return d, err
	}
	return d, os.Rename(file.Name(), filepath.Join(dir, i.blobPath(d.Digest)))
}

func (i *Image) write(dir, path string, content []byte) error {
	name := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name+".part", content, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}

// isManifest reports whether a path is that of a manifest.
func isManifest(path string) bool { return strings.Contains(path, "/manifests/") }
