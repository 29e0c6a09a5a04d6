package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"mirror/internal/oci"
)

// Download is a blob that is fetched by several requests. It remembers where the upstream pointed to, so that only the
// first of them takes the detour, and asks again when that place refuses: signed addresses are good for minutes. Of several
// endpoints, one that breaks off is asked last from then on.
type Download struct {
	registry *Registry
	name     string
	digest   oci.Digest
	trail    trail
	ahead    bool // no client has asked for it when it begins
}

// Download prepares requests for one blob.
func (r *Registry) Download(name string, d oci.Digest) *Download {
	return &Download{registry: r, name: name, digest: d}
}

// DownloadAhead is Download for content that no client has asked for yet. A registry that refuses it as one request too many
// is left alone with it, and with nothing else.
func (r *Registry) DownloadAhead(name string, d oci.Digest) *Download {
	return &Download{registry: r, name: name, digest: d, ahead: true}
}

// Open is Blob for one of several requests, which may be made from several goroutines.
func (d *Download) Open(ctx context.Context, start, end int64) (*Body, error) {
	r, name := d.registry, d.name
	if err := r.permit(name); err != nil {
		return nil, r.named(err)
	}
	deadline := time.Now().Add(r.times.total) // the wait for a place included
	release, err := r.limits.Load().transfers.take(ctx, r.times.total)
	if err != nil {
		return nil, r.named(err)
	}
	body, err := d.transfer(ctx, start, end, deadline)
	if err != nil {
		release()
		return nil, r.named(err)
	}
	body.ReadCloser = &placed{ReadCloser: body.ReadCloser, release: release}
	return body, nil
}

// placed gives the place of a transfer back when its body is closed.
type placed struct {
	io.ReadCloser
	release func()
}

// Close ends the transfer.
func (p *placed) Close() error {
	defer p.release()
	return p.ReadCloser.Close()
}

// transfer opens the bytes once there is a place for them.
func (d *Download) transfer(ctx context.Context, start, end int64, deadline time.Time) (*Body, error) {
	c := blobCall(http.MethodGet, d.name, d.digest)
	c.span, c.deadline, c.trail, c.extra = rangeHeader(start, end), deadline, &d.trail, d.ahead || d.trail.exists()
	a, err := d.ask(ctx, c)
	if err != nil {
		return nil, err
	}
	body, err := d.openBody(ctx, a, start, end)
	if err != nil {
		d.trail.leave(a.endpoint)
		_ = a.Close() // the reason to close is the error that counts
		return nil, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	d.trail.reached()
	return body, nil
}

// ask sends the call. A blob that has begun to come is worth waiting for: while every endpoint is left alone for a moment,
// as after a restart of the registry that has cut all its connections, the moment is waited for, within the call's deadline. What
// is still not there after the first pause of a breaker is an outage, and not waited for.
func (d *Download) ask(ctx context.Context, c call) (*answer, error) {
	for {
		a, err := d.registry.do(ctx, c)
		open, isOpen := errors.AsType[*BreakerError](err)
		if !isOpen || !d.trail.exists() || open.RetryAfter > breakerFirst || time.Until(c.deadline) < open.RetryAfter+d.registry.times.least || !pause(ctx, open.RetryAfter) {
			return a, err
		}
	}
}
