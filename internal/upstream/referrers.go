package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"mirror/internal/oci"
)

// maxPageQuery bounds the query of a page, in bytes. It comes back through a client.
const maxPageQuery = 1 << 10

// ReferrersPage is a part of the list of manifests that refer to a digest.
type ReferrersPage struct {
	Body     []byte // an OCI image index, JSON
	Filtered bool   // only the artifact type that was asked for is in Body
	Next     string // query of the next page, without "?"; empty at the end
}

// errNoReferrers: the upstream does not speak the referrers API.
var errNoReferrers = errors.New("the upstream has no referrers API")

// Referrers lists what refers to a digest, only one artifact type if that is not empty. page is Next of the page
// before. An upstream without the API is asked for the tag that stands in for it, and nothing there means an empty
// list: no referrers are not an error.
func (r *Registry) Referrers(ctx context.Context, name string, d oci.Digest, artifactType, page string) (ReferrersPage, error) {
	result, err := r.referrers(ctx, name, d, artifactType, page)
	return result, r.named(err)
}

func (r *Registry) referrers(ctx context.Context, name string, d oci.Digest, artifactType, page string) (ReferrersPage, error) {
	if err := r.permit(name); err != nil {
		return ReferrersPage{}, err
	}
	if !r.noReferrers.noted() {
		result, err := r.askReferrers(ctx, name, d, artifactType, page)
		if !errors.Is(err, errNoReferrers) {
			return result, err
		}
	}
	return r.referrersByTag(ctx, name, d, artifactType)
}

func (r *Registry) askReferrers(ctx context.Context, name string, d oci.Digest, artifactType, page string) (ReferrersPage, error) {
	query, err := url.ParseQuery(page[:min(len(page), maxPageQuery)])
	if err != nil {
		query = url.Values{} // the first page is the answer to a page that does not exist
	}
	if artifactType != "" {
		query.Set("artifactType", artifactType)
	}
	c := call{
		kind: kindReferrers, method: http.MethodGet, repository: name, path: "/v2/" + name + "/referrers/" + d.String(),
		query: query.Encode(), accept: oci.MediaTypeImageIndex, stay: true,
	}
	doc, err := r.fetch(ctx, c, maxManifest)
	if err == nil && mediaType(doc.header.Get("Content-Type")) == oci.MediaTypeImageIndex {
		return readReferrers(doc, artifactType)
	}
	return ReferrersPage{}, r.judgeReferrers(err)
}

// judgeReferrers decides what an answer means that is no list. That there is no API is remembered only when it cannot be
// about this one question: clients choose repository, type and page, and must not switch the API off for everybody.
func (r *Registry) judgeReferrers(err error) error {
	status, hasStatus := errors.AsType[*StatusError](err)
	switch {
	case err == nil, errors.Is(err, ErrWrongContent) && !hasStatus, hasStatus && lacksReferrers(status):
		r.noReferrers.note()
		return errNoReferrers
	case hasStatus && (status.Status == http.StatusNotFound || status.Status == http.StatusBadRequest):
		return errNoReferrers
	}
	return err
}

// lacksReferrers reports whether an answer is that of a server which does not know the path. A registry with the API
// says 404 only in the specification's form, about a repository; one that sends us elsewhere has a web site there.
func lacksReferrers(status *StatusError) bool {
	switch status.Status {
	case http.StatusNotFound:
		return status.Code == ""
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return true
	}
	return isRedirect(status.Status)
}

// referrersByTag reads the list from the tag that clients maintain on registries without the API.
func (r *Registry) referrersByTag(ctx context.Context, name string, d oci.Digest, artifactType string) (ReferrersPage, error) {
	m, err := r.manifest(ctx, name, oci.Reference{Tag: d.FallbackTag()})
	switch {
	case errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnknownRepository):
		return emptyReferrers(artifactType)
	case err != nil:
		return ReferrersPage{}, err
	case m.MediaType != oci.MediaTypeImageIndex:
		return emptyReferrers(artifactType) // somebody uses the tag for something else
	}
	return readReferrers(document{body: m.Body}, artifactType)
}

func emptyReferrers(artifactType string) (ReferrersPage, error) {
	return readReferrers(document{body: []byte("{}")}, artifactType)
}

// referrersIndex is an image index whose descriptors stay as they were sent.
type referrersIndex struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
	Annotations   json.RawMessage   `json:"annotations,omitempty"`
}

// readReferrers filters a list ourselves, always: whether the upstream did is its own claim.
func readReferrers(doc document, artifactType string) (ReferrersPage, error) {
	var index referrersIndex
	if err := json.Unmarshal(doc.body, &index); err != nil {
		return ReferrersPage{}, fmt.Errorf("%w: the list of referrers is not JSON of the known form", ErrWrongContent)
	}
	kept := []json.RawMessage{}
	for _, raw := range index.Manifests {
		var descriptor struct {
			ArtifactType string `json:"artifactType"`
		}
		if json.Unmarshal(raw, &descriptor) != nil || artifactType != "" && descriptor.ArtifactType != artifactType {
			continue
		}
		kept = append(kept, raw)
	}
	body, err := json.Marshal(referrersIndex{
		SchemaVersion: 2, MediaType: oci.MediaTypeImageIndex, Manifests: kept, Annotations: index.Annotations,
	})
	if err != nil {
		return ReferrersPage{}, fmt.Errorf("write list of referrers: %w", err)
	}
	return ReferrersPage{Body: body, Filtered: artifactType != "", Next: nextQuery(doc)}, nil
}

// nextQuery returns the query of the next page. A link that leads to another place is not followed: the next page is
// asked for at the same path.
func nextQuery(doc document) string {
	target, ok := nextLink(doc.header)
	if !ok || doc.from == nil {
		return ""
	}
	u, err := doc.from.URL.Parse(target)
	if err != nil || u.Path != doc.from.URL.Path || len(u.RawQuery) > maxPageQuery {
		return ""
	}
	return u.RawQuery
}
