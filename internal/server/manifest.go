package server

import (
	"context"
	"fmt"

	"mirror/internal/oci"
)

// serveManifest answers a manifest request. Manifests are whole and verified before the first byte.
func (s *Server) serveManifest(ctx context.Context, x *exchange) error {
	reference := x.route.reference
	m, err := s.mirror.Manifest(ctx, x.route.repository, reference)
	if err != nil {
		return err
	}
	x.rec.foundAt(m.Outcome, m.Source)
	d := m.Descriptor
	// A digest names exact bytes; only a tag leaves something to negotiate.
	if !reference.IsDigest() && !accepts(x.ctx.Request.Header.PeekAll("Accept"), d.MediaType) {
		return notAcceptable(reference, d.MediaType)
	}
	x.lookedUp(d.Digest, m.Outcome, m.Source)
	warn(&x.ctx.Response.Header, m.Warning)
	if x.notModified(d.Digest) {
		x.sendNotModified()
		return nil
	}
	if !x.isHead() {
		s.mirror.Pulled(ctx, x.route.repository, m)
	}
	x.ctx.Response.Header.SetContentType(d.MediaType)
	x.sendManifest(m.Body)
	return nil
}

func (x *exchange) sendManifest(manifest []byte) {
	size := int64(len(manifest))
	if x.isHead() {
		x.ctx.Response.Header.SetContentLength(len(manifest))
		x.ctx.Response.SkipBody = true
		return
	}
	x.sendBody(&body{content: document(manifest), size: size, parts: []part{{span: span{0, size}}}})
}

// notAcceptable is a 404 and not a 406, because that is what clients of registries understand.
func notAcceptable(reference oci.Reference, mediaType string) error {
	return &oci.Error{Code: oci.ManifestUnknown, Message: fmt.Sprintf(
		"%s is of type %s, which the request's Accept header does not list: add it, or ask by digest", reference, mediaType)}
}
