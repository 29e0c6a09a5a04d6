package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// maxHops bounds a chain of redirects. Real chains have one or two.
const maxHops = 5

// hopError is a failure of a place that the endpoint pointed to. The endpoint itself is well, so its breaker must not
// count it.
type hopError struct{ error }

// Unwrap returns the failure.
func (e hopError) Unwrap() error { return e.error }

// errTargetRefused: the target of a redirect does not know or like what we bring. Its address has expired, most likely.
var errTargetRefused = errors.New("the place that the upstream pointed to refused the request")

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// follow goes where a redirect points, by hand: each hop is a new request that carries what is needed and nothing that
// is secret, and no target is remembered, as most are signed for minutes.
func (r *Registry) follow(ctx context.Context, e *endpoint, c call, sent *http.Request, resp *http.Response) (*http.Response, error) {
	for range maxHops {
		next, err := redirectTarget(sent.URL, resp)
		if err != nil {
			return nil, err
		}
		if c.stay && !sameHost(next, e.url) {
			return resp, nil
		}
		discard(resp)
		sent = r.hop(ctx, e, c, sent, next)
		if resp, err = r.sendHop(ctx, e, c, sent); err != nil {
			return nil, err
		}
		if !isRedirect(resp.StatusCode) {
			if resp, err = r.arrived(e, c, next, resp); err == nil && c.kind == kindBlob {
				c.trail.remember(e, next) // the place of a manifest depends on what is asked for
			}
			return resp, err
		}
	}
	discard(resp)
	return nil, hopError{fmt.Errorf("%w: more than %d redirects", ErrWrongContent, maxHops)}
}

// straight goes where an earlier request of the same download was redirected to. It returns nil when there was none, or
// when it is not good any more: the endpoint knows more then. A place that has used up the time of the call is an error,
// and not the endpoint's.
func (r *Registry) straight(ctx context.Context, e *endpoint, c call) (*http.Response, error) {
	at := c.trail.of(e)
	if at == nil {
		return nil, nil
	}
	req := r.newRequest(ctx, c.method, at)
	if c.span != "" {
		req.Header.Set("Range", c.span)
	}
	resp, err := r.sendHop(ctx, e, c, req)
	if err == nil && resp.StatusCode >= 200 && resp.StatusCode < 300 && refuseWebPage(resp) == nil {
		return resp, nil
	}
	c.trail.forget(at)
	if err == nil {
		discard(resp)
	}
	if ctx.Err() != nil {
		return nil, err
	}
	return nil, nil
}

// redirectTarget reads and checks where an answer points. On error the answer is done with.
func redirectTarget(from *url.URL, resp *http.Response) (*url.URL, error) {
	location, err := from.Parse(resp.Header.Get("Location"))
	switch {
	case err != nil || resp.Header.Get("Location") == "":
		err = fmt.Errorf("%w: redirect without a usable Location", ErrWrongContent)
	case location.Scheme != "https" && location.Scheme != "http" || location.Hostname() == "":
		err = fmt.Errorf("%w: redirect to %s, which is no web address", ErrWrongContent, redactedURL(location))
	case from.Scheme == "https" && location.Scheme == "http":
		err = fmt.Errorf("%w: redirect from https to %s refused", ErrWrongContent, redactedURL(location))
	}
	if err != nil {
		discard(resp)
		return nil, hopError{err}
	}
	location.User, location.Fragment = nil, ""
	return location, nil
}

// hop builds the request for the next place. Only the endpoint itself sees the Authorization and Via headers again.
func (r *Registry) hop(ctx context.Context, e *endpoint, c call, sent *http.Request, next *url.URL) *http.Request {
	req := r.newRequest(ctx, c.method, next)
	for _, key := range []string{"Accept", "Range"} {
		if value := sent.Header.Get(key); value != "" {
			req.Header.Set(key, value)
		}
	}
	if sameHost(next, e.url) {
		req.Header.Set("Via", r.viaFor(ctx))
		if authorization := sent.Header.Get("Authorization"); authorization != "" && sameHost(sent.URL, next) {
			req.Header.Set("Authorization", authorization)
		}
	}
	return req
}

func (r *Registry) sendHop(ctx context.Context, e *endpoint, c call, req *http.Request) (*http.Response, error) {
	if sameHost(req.URL, e.url) {
		return r.send(ctx, r.wire.Load().home, c.kind, req)
	}
	transport, err := r.abroad(req)
	if err != nil {
		return nil, hopError{fmt.Errorf("%w: redirect refused: %w", ErrWrongContent, err)}
	}
	resp, err := r.send(ctx, transport, kindRedirect, req)
	if err != nil {
		return nil, hopError{fmt.Errorf("follow redirect to %s: %w", redactedURL(req.URL), err)}
	}
	return resp, nil
}

// arrived judges the answer at the end of a chain. An answer of the endpoint itself counts as if it had come at once.
func (r *Registry) arrived(e *endpoint, c call, at *url.URL, resp *http.Response) (*http.Response, error) {
	if resp.StatusCode < 300 || sameHost(at, e.url) {
		return resp, nil
	}
	defer discard(resp)
	status := r.statusError(resp)
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		status.meaning = ErrUnavailable
		return nil, hopError{fmt.Errorf("%w: %w", errTargetRefused, status)}
	case http.StatusNotFound, http.StatusGone:
		// Some registries send every question elsewhere, so for a name this may be the true answer. The endpoint has
		// just said that it has the blob.
		if c.kind == kindBlob {
			status.meaning = ErrUnavailable
			return nil, hopError{fmt.Errorf("%w: %w", errTargetRefused, status)}
		}
	}
	return nil, hopError{status}
}
