package upstreamtest

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"

	"mirror/internal/oci"
)

// Content is some bytes and what describes them.
type Content struct {
	oci.Descriptor
	Bytes []byte
}

// Image is an image that was added.
type Image struct {
	Digest    oci.Digest
	MediaType string
	Manifest  []byte
	Config    Content
	Layers    []Content
}

// Descriptor describes the image's manifest.
func (i Image) Descriptor() oci.Descriptor {
	return oci.Descriptor{MediaType: i.MediaType, Digest: i.Digest, Size: int64(len(i.Manifest))}
}

// Index is an image index that was added.
type Index struct {
	Digest    oci.Digest
	MediaType string
	Manifest  []byte
	Images    []Image
}

// repository is the content of one repository.
type repository struct {
	blobs     map[oci.Digest][]byte
	manifests map[oci.Digest]stored
	tags      map[string]oci.Digest
}

type stored struct {
	mediaType string
	body      []byte
}

// descriptorJSON is a descriptor as it stands in manifests.
type descriptorJSON struct {
	MediaType    string            `json:"mediaType"`
	Digest       oci.Digest        `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Platform     map[string]string `json:"platform,omitempty"`
}

func descriptorOf(d oci.Descriptor) descriptorJSON {
	return descriptorJSON{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// platforms are given to the images of an index in turn.
var platforms = []map[string]string{
	{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}, {"os": "linux", "architecture": "s390x"},
}

// repository returns a repository, new if need be. The caller holds the lock.
func (r *Registry) repository(name string) *repository {
	found := r.repositories[name]
	if found == nil {
		found = &repository{blobs: map[oci.Digest][]byte{}, manifests: map[oci.Digest]stored{}, tags: map[string]oci.Digest{}}
		r.repositories[name] = found
	}
	return found
}

// AddBlob adds a blob and returns its digest, sha256. The registry keeps the slice.
func (r *Registry) AddBlob(repo string, content []byte) oci.Digest {
	d := oci.DigestOf(oci.SHA256, content)
	r.AddBlobUnder(repo, d, content)
	return d
}

// AddBlobUnder adds a blob under any digest, also one that is not its own.
func (r *Registry) AddBlobUnder(repo string, d oci.Digest, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repository(repo).blobs[d] = content
}

// AddManifest adds a manifest of any form and returns its digest, sha256. An empty tag adds it without a tag.
func (r *Registry) AddManifest(repo, tag, mediaType string, body []byte) oci.Digest {
	d := oci.DigestOf(oci.SHA256, body)
	r.AddManifestUnder(repo, d, mediaType, body)
	if tag != "" {
		r.Tag(repo, tag, d)
	}
	return d
}

// AddManifestUnder adds a manifest under any digest, also one of another algorithm or a wrong one.
func (r *Registry) AddManifestUnder(repo string, d oci.Digest, mediaType string, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repository(repo).manifests[d] = stored{mediaType: mediaType, body: body}
}

// Tag lets a tag point at a digest.
func (r *Registry) Tag(repo, tag string, d oci.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repository(repo).tags[tag] = d
}

// Untag removes a tag.
func (r *Registry) Untag(repo, tag string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repository(repo).tags, tag)
}

// Remove removes a manifest or blob.
func (r *Registry) Remove(repo string, d oci.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repository(repo).blobs, d)
	delete(r.repository(repo).manifests, d)
}

// AddImage adds an OCI image whose layers have random bytes of the given lengths, under a tag if that is not empty.
// No two images are alike.
func (r *Registry) AddImage(repo, tag string, layers ...int) Image {
	return r.AddImageOver(repo, tag, nil, layers...)
}

// AddImageOver is AddImage for an image whose first layers are those of another, which may be in another repository.
func (r *Registry) AddImageOver(repo, tag string, base []Content, layers ...int) Image {
	image := Image{MediaType: oci.MediaTypeImageManifest}
	for _, layer := range base {
		image.Layers = append(image.Layers, r.add(repo, layer.MediaType, layer.Bytes))
	}
	for _, length := range layers {
		image.Layers = append(image.Layers, r.addRandom(repo, length))
	}
	config := marshal(map[string]any{
		"os": "linux", "architecture": "amd64", "author": rand.Text(),
		"rootfs": map[string]any{"type": "layers", "diff_ids": digestsOf(image.Layers)},
	})
	image.Config = r.add(repo, "application/vnd.oci.image.config.v1+json", config)
	image.Manifest = manifestOf(image, nil, "")
	image.Digest = r.AddManifest(repo, tag, image.MediaType, image.Manifest)
	return image
}

// AddReferrer adds an artifact without layers that refers to subject. Its config is the empty object of the image
// specification.
func (r *Registry) AddReferrer(repo string, subject oci.Descriptor, artifactType string) Image {
	artifact := Image{MediaType: oci.MediaTypeImageManifest}
	artifact.Config = r.add(repo, "application/vnd.oci.empty.v1+json", []byte("{}"))
	artifact.Layers = []Content{r.addRandom(repo, 16)}
	artifact.Manifest = manifestOf(artifact, &subject, artifactType)
	artifact.Digest = r.AddManifest(repo, "", artifact.MediaType, artifact.Manifest)
	return artifact
}

// AddIndex adds an index of images that were added to the same repository, each for another platform.
func (r *Registry) AddIndex(repo, tag string, images ...Image) Index {
	var children []descriptorJSON
	for i, image := range images {
		child := descriptorOf(image.Descriptor())
		child.Platform = platforms[i%len(platforms)]
		children = append(children, child)
	}
	index := Index{MediaType: oci.MediaTypeImageIndex, Images: images}
	index.Manifest = marshal(map[string]any{"schemaVersion": 2, "mediaType": index.MediaType, "manifests": children})
	index.Digest = r.AddManifest(repo, tag, index.MediaType, index.Manifest)
	return index
}

func (r *Registry) addRandom(repo string, length int) Content {
	content := make([]byte, length)
	_, _ = rand.Read(content) // never fails, says its documentation
	return r.add(repo, "application/vnd.oci.image.layer.v1.tar+gzip", content)
}

func (r *Registry) add(repo, mediaType string, content []byte) Content {
	d := r.AddBlob(repo, content)
	return Content{Descriptor: oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}, Bytes: content}
}

func manifestOf(image Image, subject *oci.Descriptor, artifactType string) []byte {
	layers := []descriptorJSON{}
	for _, layer := range image.Layers {
		layers = append(layers, descriptorOf(layer.Descriptor))
	}
	manifest := map[string]any{
		"schemaVersion": 2, "mediaType": image.MediaType, "config": descriptorOf(image.Config.Descriptor), "layers": layers,
	}
	if subject != nil {
		manifest["subject"] = descriptorOf(*subject)
	}
	if artifactType != "" {
		manifest["artifactType"] = artifactType
	}
	return marshal(manifest)
}

func digestsOf(contents []Content) []string {
	digests := []string{}
	for _, content := range contents {
		digests = append(digests, content.Digest.String())
	}
	return digests
}

// referrersOf lists what refers to d, in a fixed order. The caller holds the lock.
func (repo *repository) referrersOf(d oci.Digest) []descriptorJSON {
	found := []descriptorJSON{}
	for digest, manifest := range repo.manifests {
		parsed, err := oci.ParseManifest(manifest.mediaType, manifest.body)
		if err != nil || parsed.Subject.Digest != d {
			continue
		}
		found = append(found, descriptorJSON{
			MediaType: manifest.mediaType, Digest: digest, Size: int64(len(manifest.body)), ArtifactType: parsed.ArtifactType,
		})
	}
	slices.SortFunc(found, func(a, b descriptorJSON) int {
		if a.Digest.String() < b.Digest.String() {
			return -1
		}
		return 1
	})
	return found
}

// sortedTags lists the tags in lexical order. The caller holds the lock.
func (repo *repository) sortedTags() []string { return slices.Sorted(maps.Keys(repo.tags)) }

// marshal writes JSON of our own making, which cannot fail.
func marshal(value any) []byte {
	body, err := json.Marshal(value)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return body
}
