package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// document is a small answer, read whole.
type document struct {
	header   http.Header
	body     []byte
	from     *http.Request
	endpoint *endpoint
}

// fetch reads a document of at most limit bytes. One that breaks off is asked for once more. The time for both, the
// body included, is bounded, so that a trickle is not waited for.
func (r *Registry) fetch(ctx context.Context, c call, limit int64) (document, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.times.document, errSlow)
	defer cancel()
	doc, err := r.fetchOnce(ctx, c, limit)
	if errors.Is(err, errBrokenOff) && r.mayRetry() {
		doc, err = r.fetchOnce(ctx, c, limit)
	}
	return doc, err
}

// errBrokenOff: a body ended before its announced length.
var errBrokenOff = fmt.Errorf("%w: the body broke off", ErrUnavailable)

func (r *Registry) fetchOnce(ctx context.Context, c call, limit int64) (document, error) {
	a, err := r.do(ctx, c)
	if err != nil {
		return document{}, err
	}
	defer a.Close()
	if err := checkWhole(a.Response); err != nil {
		return document{}, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	if a.ContentLength > limit {
		return document{}, fmt.Errorf("%s %s: %w: %d bytes, and %d is the most", c.method, c.path, ErrTooLarge, a.ContentLength, limit)
	}
	body, err := readBounded(&counted{registry: r, from: a.Body}, limit)
	if err != nil {
		return document{}, fmt.Errorf("%s %s: read body: %w", c.method, c.path, r.brokenOff(ctx, err))
	}
	return document{header: a.Header, body: body, from: a.Request, endpoint: a.endpoint}, nil
}

// brokenOff says what it means that a document's body could not be read.
func (r *Registry) brokenOff(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrTooLarge):
		return err
	case ctx.Err() != nil:
		return r.explain(ctx, ctx, err)
	}
	return fmt.Errorf("%w: %w", errBrokenOff, err)
}

// checkWhole refuses what cannot be a document of a registry, or news of a blob: part of something.
func checkWhole(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: status %d where 200 is due", ErrWrongContent, resp.StatusCode)
	}
	return nil
}

// errWebPage: no registry has answered, but the login page of a hotel network.
var errWebPage = fmt.Errorf("%w: a web page: is there a login page or proxy in between?", ErrWrongContent)

func refuseWebPage(resp *http.Response) error {
	if t := mediaType(resp.Header.Get("Content-Type")); t == "text/html" || t == "application/xhtml+xml" {
		return errWebPage
	}
	return nil
}

// counted reads a body and counts its bytes, also towards the bandwidth. It does not wait for the bandwidth: a document
// is short, and must not queue behind blobs.
type counted struct {
	registry *Registry
	from     io.Reader
}

// Read reads what is there.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p[:c.registry.limits.Load().room(len(p))])
	c.registry.metrics.bytes.Add(float64(n))
	c.registry.limits.Load().charge(n)
	return n, err
}
