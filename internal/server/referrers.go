package server

import (
	"context"
	"errors"
	"net/url"

	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// serveReferrers answers which manifests refer to a digest: an image index.
func (s *Server) serveReferrers(ctx context.Context, x *exchange) error {
	d := x.route.reference.Digest
	list, err := s.mirror.Referrers(ctx, x.route.repository, d, x.route.query.artifactType, x.route.query.page)
	if err != nil {
		return referrersFault(err)
	}
	if list.Filtered {
		x.set("OCI-Filters-Applied", "artifactType")
	}
	if list.Next != "" {
		x.linkReferrers(d, list.Next)
	}
	warn(&x.ctx.Response.Header, list.Warning)
	x.sendDocument(oci.MediaTypeImageIndex, list.Body)
	return nil
}

// linkReferrers adds the link to the next page. What the upstream said of it travels as one opaque value, so that
// nothing of it is taken for a parameter of ours.
func (x *exchange) linkReferrers(d oci.Digest, next string) {
	values := url.Values{"page": {next}}
	if x.route.query.artifactType != "" {
		values.Set("artifactType", x.route.query.artifactType)
	}
	x.linkNext("referrers/"+d.String(), values)
}

// referrersFault turns an unreachable upstream into "not found". Clients then look for the fallback tag of the digest,
// which may be in the cache; of any other answer some of them make a failed pull.
func referrersFault(err error) error {
	if errors.Is(err, upstream.ErrUnavailable) {
		return &refusal{status: 404, code: oci.NameUnknown, cause: err,
			message: "the referrers of this digest cannot be had at the moment: look for the tag <algorithm>-<encoded> instead, or try again"}
	}
	return err
}
