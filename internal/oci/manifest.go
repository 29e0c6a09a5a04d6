package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"strings"
)

// maxMediaType is the longest media type in characters that is taken from a manifest: two names of 127 characters and
// the slash between them (RFC 6838, section 4.2).
const maxMediaType = 255

// The media types of manifests. Schema1 ones are recognised to be refused: their digest is not that of their bytes.
const (
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeSchema1        = "application/vnd.docker.distribution.manifest.v1+json"
	MediaTypeSchema1Signed  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	MediaTypeOctetStream    = "application/octet-stream"
)

// Manifest is what the mirror needs to know of a manifest or index: its type and what it points at.
type Manifest struct {
	MediaType    string
	ArtifactType string
	Annotations  map[string]string
	// Config is zero for an index.
	Config Descriptor
	// Children are the contents that belong to the same repository: config and layers, or the manifests of an index.
	// Descriptors with URLs (they live elsewhere), with an unsupported digest (nobody could verify them) and with a size
	// that cannot be true are left out, and so is the subject, which need not exist.
	Children []Descriptor
	// Platforms says for which platform each child of an index is, as far as the index tells.
	Platforms map[Digest]Platform
	Subject   Descriptor
}

// manifestJSON is the union of the formats, with digests as text so that a foreign algorithm in one child does not
// make the whole unreadable.
type manifestJSON struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Config       *descriptorJSON   `json:"config"`
	Layers       []descriptorJSON  `json:"layers"`
	Manifests    []descriptorJSON  `json:"manifests"`
	Subject      *descriptorJSON   `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
	FSLayers     []json.RawMessage `json:"fsLayers"`
}

type descriptorJSON struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	Size      int64    `json:"size"`
	URLs      []string `json:"urls"`
	// Platform is read by itself, so that a strange one does not make the whole unreadable.
	Platform json.RawMessage `json:"platform"`
}

// parse returns the descriptor as a value. A media type that is none becomes empty. Some builders leave the size out,
// which reads as zero: passing that on would make every download of the content look too long.
func (d *descriptorJSON) parse() (Descriptor, bool) {
	if d == nil {
		return Descriptor{}, false
	}
	digest, err := ParseDigest(d.Digest)
	if err != nil || d.Size < 0 || d.Size == 0 && !digest.Verifies(nil) {
		return Descriptor{}, false
	}
	return Descriptor{MediaType: legalMediaType(d.MediaType), Digest: digest, Size: d.Size}, true
}

// legalMediaType returns text when it is a media type that may stand in a header, else nothing. What a manifest says is
// a stranger's word: it could hold line breaks.
func legalMediaType(text string) string {
	if len(text) > maxMediaType || strings.ContainsFunc(text, unprintable) {
		return ""
	}
	if t, _, err := mime.ParseMediaType(text); err != nil || !strings.Contains(t, "/") {
		return ""
	}
	return text
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }

// ParseManifest reads a manifest or index of any of the modern types. The declared media type is what came with the
// bytes; a generic or missing one is replaced by what the bytes say (the field mediaType, else the fields present).
// Bytes that are no JSON object of a known shape, and schema 1, are an *Error with code MANIFEST_INVALID.
func ParseManifest(declared string, body []byte) (Manifest, error) {
	var raw manifestJSON
	if err := json.Unmarshal(body, &raw); err != nil {
		return Manifest{}, &Error{Code: ManifestInvalid, Message: "manifest is not JSON of a known shape: " + cut(err.Error())}
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return Manifest{}, &Error{Code: ManifestInvalid, Message: "manifest is not a JSON object"}
	}
	m := Manifest{MediaType: manifestType(declared, &raw), ArtifactType: raw.ArtifactType, Annotations: raw.Annotations}
	switch m.MediaType {
	case "":
		return Manifest{}, &Error{Code: ManifestInvalid, Message: fmt.Sprintf("content of type %q has no field that makes it a manifest", cut(declared))}
	case MediaTypeSchema1, MediaTypeSchema1Signed:
		return Manifest{}, &Error{Code: ManifestInvalid, Message: "manifest is of schema 1, which cannot be verified; push the image again with a current client"}
	}
	m.Config, _ = raw.Config.parse()
	m.Subject, _ = raw.Subject.parse()
	m.Children = raw.children()
	m.Platforms = raw.platforms()
	return m, nil
}

func (raw *manifestJSON) children() []Descriptor {
	var children []Descriptor
	add := func(d *descriptorJSON) {
		if child, ok := d.parse(); ok && len(d.URLs) == 0 {
			children = append(children, child)
		}
	}
	add(raw.Config)
	for i := range raw.Layers {
		add(&raw.Layers[i])
	}
	for i := range raw.Manifests {
		add(&raw.Manifests[i])
	}
	return children
}

// platforms returns the platforms of an index's manifests that are one.
func (raw *manifestJSON) platforms() map[Digest]Platform {
	var platforms map[Digest]Platform
	for i := range raw.Manifests {
		d := &raw.Manifests[i]
		child, ok := d.parse()
		platform := parsePlatform(d.Platform)
		if !ok || !platform.known() {
			continue
		}
		if platforms == nil {
			platforms = make(map[Digest]Platform)
		}
		platforms[child.Digest] = platform
	}
	return platforms
}

// manifestType decides what a manifest is (protocol rule: what is declared counts unless it is generic).
func manifestType(declared string, raw *manifestJSON) string {
	for _, said := range []string{declared, raw.MediaType} {
		if t, _, _ := mime.ParseMediaType(legalMediaType(said)); t != "" && !genericType(t) {
			return t
		}
	}
	switch {
	case raw.Manifests != nil:
		return MediaTypeImageIndex
	case raw.Config != nil || raw.Layers != nil:
		return MediaTypeImageManifest
	case raw.FSLayers != nil:
		return MediaTypeSchema1
	}
	return ""
}

// genericType reports whether a server that sends this type has said nothing about the content.
func genericType(t string) bool {
	return t == "text/plain" || t == "application/json" || t == MediaTypeOctetStream
}

// IsIndexType reports whether t is the type of an index, whose children are manifests.
func IsIndexType(t string) bool { return t == MediaTypeImageIndex || t == MediaTypeDockerList }

// IsManifestType reports whether t is the type of a manifest or index that this program understands.
func IsManifestType(t string) bool {
	switch t {
	case MediaTypeImageManifest, MediaTypeImageIndex, MediaTypeDockerManifest, MediaTypeDockerList:
		return true
	}
	return false
}
