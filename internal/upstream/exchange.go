package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// timings are how long things may take. Tests shorten them.
type timings struct {
	header   time.Duration // one endpoint, from the start to its first header: dial, token and redirects included
	probe    time.Duration // the same, for a trial of an endpoint that was down, when there are others
	total    time.Duration // a call to its first header: retries and all endpoints
	least    time.Duration // with less than this left of total, no endpoint is asked: it would have no fair chance
	document time.Duration // a manifest or list, body included
	token    time.Duration // one token exchange
	stall    time.Duration // a blob's body without a byte
	backoff  time.Duration // the shortest pause before a retry; the longest is three times as much
}

// standardTimings keep the promise that a client sees headers within 25 s: containerd gives up after 30.
func standardTimings() timings {
	return timings{
		header: 15 * time.Second, probe: 3 * time.Second, total: 20 * time.Second, least: time.Second, document: 25 * time.Second,
		token: 10 * time.Second, stall: 30 * time.Second, backoff: 100 * time.Millisecond,
	}
}

// errSlow is the cause of a context that ended because a timing was over.
var errSlow = errors.New("the time for an answer is over")

// call is one question to a registry, whichever endpoint answers it.
type call struct {
	kind       kind
	method     string
	repository string
	path       string // starts with /v2/
	query      string
	accept     string
	span       string // value of the Range header
	stay       bool   // a redirect to another host is an answer, not to be followed
	// target, when set, is where an earlier request for the same content was redirected to.
	target *target
}

// answer is a success whose body is still to be read. Its context lives until Close.
type answer struct {
	*http.Response
	ctx    context.Context
	cancel context.CancelCauseFunc
	// release gives the place among the connections back.
	release func()
}

// Close ends the answer. A connection whose body was not read to its end is closed rather than drained: a stalled body
// would hold us up.
func (a *answer) Close() error {
	err := a.Body.Close()
	a.cancel(nil)
	a.release()
	return err
}

// do asks the endpoints once there is a connection for the call. The connection is free again when the answer is closed.
func (r *Registry) do(ctx context.Context, c call) (*answer, error) {
	if r.config.Offline {
		return nil, fmt.Errorf("%s %s: %w", c.method, c.path, ErrOffline)
	}
	deadline := time.Now().Add(r.times.total)
	release, err := r.limits.Load().connections.take(ctx, r.times.total)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	a, err := r.ask(ctx, c, deadline)
	if err != nil {
		release()
		return nil, err
	}
	a.release = release
	return a, nil
}

// ask asks the endpoints in their order until one gives an answer that settles the question.
func (r *Registry) ask(ctx context.Context, c call, deadline time.Time) (*answer, error) {
	var failure error
	for _, e := range r.endpoints {
		a, err := r.askEndpoint(ctx, e, c, deadline, failure)
		if err == nil || !worthAnother(ctx, err) {
			return a, err
		}
		failure = telling(failure, err)
	}
	return nil, failure
}

// telling returns the failure that says more. What happened says more than that a breaker is open since.
func telling(first, second error) error {
	if _, isOpen := errors.AsType[*BreakerError](second); isOpen && first != nil {
		return first
	}
	return second
}

// askEndpoint asks one endpoint, as one account after the other where that may help. That a rate limit is used up says more
// than that another account is refused: it passes.
func (r *Registry) askEndpoint(ctx context.Context, e *endpoint, c call, deadline time.Time, before error) (*answer, error) {
	var failure error
	for _, as := range r.accountsFor(e) {
		a, err := r.askTwice(ctx, e, as, c, deadline, before)
		if err == nil {
			return a, nil
		}
		r.doubt(as, c, err)
		if failure == nil || !errors.Is(failure, ErrTooManyRequests) {
			failure = err
		}
		if !r.worthAnotherAccount(ctx, err) {
			return nil, telling(failure, err)
		}
	}
	return nil, failure
}

// askTwice asks an endpoint as an account. It gets a second chance after a short pause when it failed without costing time.
// With too little time left, the failure from before is the answer.
func (r *Registry) askTwice(ctx context.Context, e *endpoint, as *account, c call, deadline time.Time, before error) (*answer, error) {
	failure := before
	for attempt := range 2 {
		if failure != nil && time.Until(deadline) < r.times.least {
			return nil, failure
		}
		if attempt > 0 && !pause(ctx, r.times.backoff+rand.N(2*r.times.backoff+1)) {
			return nil, fmt.Errorf("%s %s: %w", c.method, c.path, r.explain(ctx, ctx, ctx.Err()))
		}
		a, err := r.try(ctx, e, as, c, deadline)
		if err == nil || !worthAnother(ctx, err) || !worthRepeating(err) {
			return a, err
		}
		failure = telling(failure, err)
	}
	return nil, failure
}

// worthAnother reports whether another attempt or endpoint may do better.
func worthAnother(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, ErrTooManyRequests)) &&
		!errors.Is(err, errLimited) && !errors.Is(err, errTargetRefused)
}

// worthRepeating reports whether the same endpoint may do better at once. A timeout has cost too much already, and an
// open breaker or a rate limit does not change within a second.
func worthRepeating(err error) bool {
	_, isOpen := errors.AsType[*BreakerError](err)
	return !isOpen && !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrTooManyRequests)
}

// pause waits, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// try asks one endpoint, if its breaker lets the request through, and tells the breaker how it went.
func (r *Registry) try(parent context.Context, e *endpoint, as *account, c call, deadline time.Time) (*answer, error) {
	if err := r.admit(e, as, c); err != nil {
		return nil, err
	}
	pass, wait, cause := e.breaker.admit()
	if pass.breaker == nil {
		return nil, &BreakerError{Endpoint: redactedURL(e.url), RetryAfter: wait, Last: cause}
	}
	ctx, cancel := context.WithCancelCause(parent)
	clock := time.AfterFunc(min(r.patience(pass), time.Until(deadline)), func() { cancel(errSlow) })
	resp, err := r.attempt(ctx, e, as, c) //nolint:bodyclose // the answer closes it
	clock.Stop()
	r.settleAllowance(e, as, c, err)
	if err != nil {
		err = fmt.Errorf("%s %s%s: %w", c.method, redactedURL(e.url), c.path, r.explain(parent, ctx, err))
		cancel(nil)
		pass.settle(c.path, err)
		return nil, err
	}
	pass.succeeded()
	return &answer{Response: resp, ctx: ctx, cancel: cancel}, nil
}

// patience returns how long to wait for an endpoint's first header. A trial of one that was down must not cost a client
// much while another would answer.
func (r *Registry) patience(pass ticket) time.Duration {
	if pass.probe && len(r.endpoints) > 1 {
		return r.times.probe
	}
	return r.times.header
}

// settle tells the breaker what a failure means for the endpoint.
func (t ticket) settle(path string, err error) {
	_, elsewhere := errors.AsType[hopError](err)
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, errLimited):
		t.abandoned()
	case errors.Is(err, ErrUnavailable) && !elsewhere:
		t.failed(path, err)
	default:
		t.succeeded()
	}
}

// attempt asks once, redirects included. When the target of a redirect refuses, the endpoint is asked for another once:
// signed addresses expire, and storage lags behind.
func (r *Registry) attempt(ctx context.Context, e *endpoint, as *account, c call) (*http.Response, error) {
	if resp, err := r.straight(ctx, e, c); resp != nil || err != nil {
		return resp, err
	}
	for first := true; ; first = false {
		req, resp, err := r.authenticated(ctx, e, as, c)
		if err != nil {
			return nil, err
		}
		if isRedirect(resp.StatusCode) {
			resp, err = r.follow(ctx, e, c, req, resp)
		}
		if first && errors.Is(err, errTargetRefused) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return r.judge(resp)
	}
}

// judge turns every answer that is no success into an error.
func (r *Registry) judge(resp *http.Response) (*http.Response, error) {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer discard(resp)
	return nil, r.statusError(resp)
}

// explain gives the failure of a request its meaning, and keeps the mark that it happened elsewhere. parent is the
// caller's context, ctx the attempt's.
func (r *Registry) explain(parent, ctx context.Context, err error) error {
	meant := r.meaning(parent, ctx, err)
	if _, elsewhere := errors.AsType[hopError](err); elsewhere && !errors.Is(meant, context.Canceled) {
		return hopError{meant}
	}
	return meant
}

func (r *Registry) meaning(parent, ctx context.Context, err error) error {
	switch {
	case errors.Is(parent.Err(), context.Canceled) || r.life.Err() != nil:
		return context.Canceled
	case hasMeaning(err):
		return err
	case errors.Is(parent.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrTimeout, context.DeadlineExceeded)
	case errors.Is(context.Cause(ctx), errSlow):
		return ErrTimeout
	case errors.Is(err, errPrivateAddress):
		return fmt.Errorf("%w: refused to go where the upstream pointed: %w", ErrWrongContent, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// hasMeaning reports whether err says already what the caller must know.
func hasMeaning(err error) bool {
	for _, meaning := range []error{
		ErrNotFound, ErrDenied, ErrUnauthorized, ErrTooManyRequests, ErrUnavailable, ErrWrongContent, ErrTooLarge,
	} {
		if errors.Is(err, meaning) {
			return true
		}
	}
	return false
}

// request builds the call for one endpoint, without authentication.
func (r *Registry) request(ctx context.Context, e *endpoint, c call) *http.Request {
	target := &url.URL{Scheme: e.url.Scheme, Host: e.url.Host, Path: e.url.Path + c.path, RawQuery: c.query}
	req := r.newRequest(ctx, c.method, target)
	req.Header.Set("Via", r.viaFor(ctx))
	if c.accept != "" {
		req.Header.Set("Accept", c.accept)
	}
	if c.span != "" {
		req.Header.Set("Range", c.span)
	}
	return req
}
