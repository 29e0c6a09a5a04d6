package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"mirror/internal/oci"
)

// maxManifest is the longest manifest taken, in bytes: what the distribution specification asks registries to accept.
// containerd takes 195 KiB more, others less.
const maxManifest = 4 << 20

// modernTypes is always asked for in full, never what a client accepts: the answer for a tag depends on it, and there
// is one answer to keep.
var modernTypes = strings.Join([]string{
	oci.MediaTypeImageIndex, oci.MediaTypeImageManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest,
}, ", ")

// Manifest is a manifest or index, whole and hashed.
type Manifest struct {
	MediaType string
	Digest    oci.Digest
	Body      []byte
}

func manifestCall(method, name string, ref oci.Reference) call {
	return call{
		kind: kindManifest, method: method, repository: name,
		path: "/v2/" + name + "/manifests/" + ref.String(), accept: modernTypes,
	}
}

// HeadManifest asks what a reference names now. The digest is zero when the upstream does not tell it, and the whole
// descriptor when it does not answer HEAD at all; the caller then needs Manifest. Size is what the upstream claims,
// zero when it claims nothing; some claim a wrong one.
func (r *Registry) HeadManifest(ctx context.Context, name string, ref oci.Reference) (oci.Descriptor, error) {
	d, err := r.headManifest(ctx, name, ref)
	return d, r.named(err)
}

func (r *Registry) headManifest(ctx context.Context, name string, ref oci.Reference) (oci.Descriptor, error) {
	if err := r.permit(name); err != nil || r.noHead.noted() {
		return oci.Descriptor{}, err
	}
	c := manifestCall(http.MethodHead, name, ref)
	a, err := r.do(ctx, c)
	switch statusOf(err) {
	case http.StatusMethodNotAllowed:
		r.noHead.note()
		return oci.Descriptor{}, nil
	case http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		return oci.Descriptor{}, nil // Manifest finds out what the upstream would send
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer a.Close()
	if err := checkWhole(a.Response); err != nil {
		return oci.Descriptor{}, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	return oci.Descriptor{
		MediaType: mediaType(a.Header.Get("Content-Type")), Digest: headerDigest(a.Header), Size: max(a.ContentLength, 0),
	}, nil
}

// headerDigest returns the digest that an answer claims, or zero. An unreadable one is no claim.
func headerDigest(header http.Header) oci.Digest {
	d, err := oci.ParseDigest(strings.TrimSpace(header.Get("Docker-Content-Digest")))
	if err != nil {
		return oci.Digest{}
	}
	return d
}

// Manifest fetches a manifest or index, at most 4 MiB. By digest, the bytes are verified with that digest; by tag, the
// digest is computed, and what the upstream claims must agree. The media type is never a generic one. A manifest of
// schema 1 is an ErrNotFound, as nobody could verify it.
func (r *Registry) Manifest(ctx context.Context, name string, ref oci.Reference) (Manifest, error) {
	m, err := r.manifest(ctx, name, ref)
	return m, r.named(err)
}

func (r *Registry) manifest(ctx context.Context, name string, ref oci.Reference) (Manifest, error) {
	if err := r.permit(name); err != nil {
		return Manifest{}, err
	}
	var t trail
	m, err := r.manifestOnce(ctx, name, ref, &t)
	// A cache on the way may have held something old or broken; the second answer, of another endpoint if there is one, is
	// then right.
	if errors.Is(err, errOtherDigest) {
		m, err = r.manifestOnce(ctx, name, ref, &t)
	}
	if claim, disputed := errors.AsType[*claimError](err); disputed {
		return r.disputed(ctx, name, ref, claim, &t)
	}
	return m, err
}

// disputed judges an answer for a tag when what the upstream sends and what it says about it differ. The bytes are right if
// they can be had by their digest; else another endpoint is believed.
func (r *Registry) disputed(ctx context.Context, name string, ref oci.Reference, claim *claimError, t *trail) (Manifest, error) {
	m, err := r.manifestOnce(ctx, name, oci.Reference{Digest: claim.got}, t)
	if err != nil && len(r.endpoints) > 1 {
		m, err = r.manifestOnce(ctx, name, ref, t)
	}
	if err != nil {
		return Manifest{}, claim
	}
	return m, nil
}

// errOtherDigest: the bytes are not those of the digest that was asked for.
var errOtherDigest = fmt.Errorf("%w: other bytes than the digest names", ErrWrongContent)

// claimError says that an answer for a tag claims another digest than its bytes have.
type claimError struct {
	tag          string
	claimed, got oci.Digest
}

// Error names both digests.
func (e *claimError) Error() string {
	return fmt.Sprintf("%v: manifest of tag %s: the upstream claims %s, its bytes have %s", ErrWrongContent, e.tag, e.claimed, e.got)
}

// Unwrap returns ErrWrongContent.
func (e *claimError) Unwrap() error { return ErrWrongContent }

// manifestOnce fetches and checks. The endpoint of what is no good is blamed for it, and is asked last from then on.
func (r *Registry) manifestOnce(ctx context.Context, name string, ref oci.Reference, t *trail) (Manifest, error) {
	c := manifestCall(http.MethodGet, name, ref)
	c.trail = t
	doc, err := r.fetch(ctx, c, maxManifest)
	if status := statusOf(err); status == http.StatusNotAcceptable || status == http.StatusUnsupportedMediaType {
		c.accept = "*/*"
		doc, err = r.fetch(ctx, c, maxManifest)
	}
	if err != nil {
		return Manifest{}, err
	}
	m, err := readManifest(ref, doc)
	if err != nil {
		t.leave(doc.endpoint)
		return Manifest{}, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	return m, nil
}

// readManifest checks a document against the reference it was asked for by.
func readManifest(ref oci.Reference, doc document) (Manifest, error) {
	declared := doc.header.Get("Content-Type")
	if isSchema1(declared, doc.body) {
		return Manifest{}, fmt.Errorf("%w: the manifest is of schema 1, which cannot be verified: push the image again with a current client", ErrNotFound)
	}
	digest, err := digestOf(ref, doc)
	if err != nil {
		return Manifest{}, err
	}
	parsed, err := oci.ParseManifest(declared, doc.body)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrWrongContent, err)
	}
	return Manifest{MediaType: parsed.MediaType, Digest: digest, Body: doc.body}, nil
}

// digestOf returns the digest of a document's bytes, under the algorithm that the reference or the upstream uses.
func digestOf(ref oci.Reference, doc document) (oci.Digest, error) {
	if ref.IsDigest() {
		if !ref.Digest.Verifies(doc.body) {
			return oci.Digest{}, fmt.Errorf("%w: want %s, got %s", errOtherDigest, ref.Digest, oci.DigestOf(ref.Digest.Algorithm(), doc.body))
		}
		return ref.Digest, nil
	}
	claimed := headerDigest(doc.header)
	if claimed.IsZero() {
		return oci.DigestOf(oci.SHA256, doc.body), nil
	}
	if !claimed.Verifies(doc.body) {
		return oci.Digest{}, &claimError{tag: ref.Tag, claimed: claimed, got: oci.DigestOf(claimed.Algorithm(), doc.body)}
	}
	return claimed, nil
}

// isSchema1 recognises the first format of manifests, whose digest is not that of its bytes.
func isSchema1(declared string, body []byte) bool {
	if t := mediaType(declared); t == oci.MediaTypeSchema1 || t == oci.MediaTypeSchema1Signed {
		return true
	}
	var version struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	return json.Unmarshal(body, &version) == nil && version.SchemaVersion == 1
}
