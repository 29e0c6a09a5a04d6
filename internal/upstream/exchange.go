package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// timings are how long things may take. Tests shorten them.
type timings struct {
	header   time.Duration // one endpoint, from the start to its first header: dial, token and redirects included
	probe    time.Duration // the same, for a client's request to an endpoint that was down, when there are others
	fair     time.Duration // with less than this, an endpoint that did not answer may only be slow
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
		header: 15 * time.Second, probe: 3 * time.Second, fair: 5 * time.Second, total: 20 * time.Second, least: time.Second,
		document: 25 * time.Second, token: 10 * time.Second, stall: 30 * time.Second, backoff: 100 * time.Millisecond,
	}
}

// errSlow is the cause of a context that ended because a timing was over, and errHurried of one that ended before there had
// been a fair chance, so that there is time left for another endpoint.
var (
	errSlow    = errors.New("the time for an answer is over")
	errHurried = errors.New("the time for an answer is over, which was short")
)

// call is one question to a registry, whichever endpoint answers it.
type call struct {
	kind       kind
	method     string
	repository string
	path       string // starts with /v2/
	query      string
	accept     string
	span       string    // value of the Range header
	stay       bool      // a redirect to another host is an answer, not to be followed
	background bool      // no client waits for it
	extra      bool      // something can be had without it: more of what is on its way, or what may be asked for next
	deadline   time.Time // for the first header; zero means the whole time of a call from now on
	// trail, when set, is what earlier requests for the same content have found out.
	trail *trail
}

// answer is a success whose body is still to be read. Its context lives until Close.
type answer struct {
	*http.Response
	endpoint *endpoint
	ctx      context.Context
	cancel   context.CancelCauseFunc
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
	if c.deadline.IsZero() {
		c.deadline = time.Now().Add(r.times.total)
	}
	release, err := r.limits.Load().connections.take(ctx, time.Until(c.deadline))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	a, err := r.ask(ctx, c)
	if err != nil {
		release()
		return nil, err
	}
	a.release = release
	return a, nil
}

// ask asks the endpoints in their order until one gives an answer that settles the question. When all of them have failed,
// those that may do better at once are asked again after a short pause, if the retry budget has something left.
func (r *Registry) ask(ctx context.Context, c call) (*answer, error) {
	r.retries.earn()
	a, again, failure := r.askAll(ctx, r.order(c), c, nil)
	if len(again) == 0 || time.Until(c.deadline) < r.times.least || !r.mayRetry() {
		return a, failure
	}
	if !pause(ctx, r.times.backoff+rand.N(2*r.times.backoff+1)) {
		return nil, fmt.Errorf("%s %s: %w", c.method, c.path, r.explain(ctx, ctx, ctx.Err()))
	}
	a, _, failure = r.askAll(ctx, again, c, failure)
	return a, failure
}

// askAll asks some endpoints. Without an answer it returns those that are worth asking again, and the failure that says
// most, before included. With too little time left, the failure so far is the answer.
func (r *Registry) askAll(ctx context.Context, some []*endpoint, c call, before error) (a *answer, again []*endpoint, failure error) {
	failure = before
	for i, e := range some {
		if failure != nil && time.Until(c.deadline) < r.times.least {
			return nil, nil, failure
		}
		a, err := r.askEndpoint(ctx, e, c, r.share(ctx, c, some[i+1:]))
		if err == nil {
			return a, nil, nil
		}
		if !worthAnother(ctx, c, err) {
			return nil, nil, err
		}
		c.trail.blame(e)
		// That one does not have what is known to exist says less than what was wrong with another.
		if failure == nil || !isRefused(err) {
			failure = telling(failure, err)
		}
		if worthRepeating(err) {
			again = append(again, e)
		}
	}
	return nil, again, failure
}

// share returns how long an endpoint may take: no more than half of what is left while there are others to ask.
func (r *Registry) share(ctx context.Context, c call, others []*endpoint) time.Duration {
	left := time.Until(c.deadline)
	if !slices.ContainsFunc(others, func(e *endpoint) bool { return e.breaker.ready() }) {
		return left
	}
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return left / 2
}

// telling returns the failure that says more. What happened says more than that a breaker is open since.
func telling(first, second error) error {
	if _, isOpen := errors.AsType[*BreakerError](second); isOpen && first != nil {
		return first
	}
	return second
}

// isRefused reports whether an endpoint has answered that it does not have something, or not for us.
func isRefused(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) || errors.Is(err, ErrUnauthorized)
}

// askEndpoint asks one endpoint, as one account after the other where that may help. That a rate limit is used up says more
// than that another account is refused: it passes. Of several that are used up, the one that passes first counts.
func (r *Registry) askEndpoint(ctx context.Context, e *endpoint, c call, share time.Duration) (*answer, error) {
	var failure error
	until := time.Now().Add(share)
	for _, as := range r.accountsFor(e) {
		if failure != nil && time.Until(until) < r.times.least {
			return nil, failure
		}
		a, err := r.try(ctx, e, as, c, until)
		if err == nil {
			return a, nil
		}
		r.doubt(as, c, err)
		if failure == nil || !errors.Is(failure, ErrTooManyRequests) || passesSooner(err, failure) {
			failure = err
		}
		if !r.worthAnotherAccount(ctx, err) {
			return nil, telling(failure, err)
		}
	}
	return nil, failure
}

// passesSooner reports whether a rate limit is over before another. One that names no time ends soon.
func passesSooner(limit, other error) bool {
	return errors.Is(limit, ErrTooManyRequests) && RetryAfter(limit) < RetryAfter(other)
}

// worthAnother reports whether another endpoint, or another attempt, may do better. That one endpoint does not have what
// another has begun to send is no answer.
func worthAnother(ctx context.Context, c call, err error) bool {
	if ctx.Err() != nil || errors.Is(err, errLimited) {
		return false
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrTooManyRequests) || astray(err) || c.trail.exists() && isRefused(err)
}

// astray reports whether a request ended at something that is no registry: a login page, or a redirect that leads nowhere.
// That says nothing of the content, and asking the same endpoint again leads to the same place.
func astray(err error) bool {
	_, elsewhere := errors.AsType[hopError](err)
	_, answered := errors.AsType[*StatusError](err)
	return errors.Is(err, errWebPage) || elsewhere && !answered && errors.Is(err, ErrWrongContent)
}

// worthRepeating reports whether the same endpoint may do better at once. A timeout has cost too much already, an open
// breaker or a rate limit does not change within a second, and storage that refuses has been asked twice.
func worthRepeating(err error) bool {
	_, isOpen := errors.AsType[*BreakerError](err)
	return !isOpen && errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTimeout) && !errors.Is(err, errTargetRefused)
}

// mayRetry takes a retry from the budget.
func (r *Registry) mayRetry() bool {
	granted := r.retries.spend()
	r.metrics.retried(granted)
	return granted
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
func (r *Registry) try(parent context.Context, e *endpoint, as *account, c call, until time.Time) (*answer, error) {
	if err := r.admit(e, as, c); err != nil {
		return nil, err
	}
	pass, wait, cause := e.breaker.admit()
	if pass.breaker == nil {
		return nil, &BreakerError{Endpoint: redactedURL(e.url), RetryAfter: wait, Last: cause}
	}
	ctx, cancel := context.WithCancelCause(parent)
	clock := r.startClock(r.patience(pass, c, until), cancel)
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
	return &answer{Response: resp, endpoint: e, ctx: ctx, cancel: cancel}, nil
}

// patience returns how long to wait for an endpoint's first header. A trial of one that was down must not cost a client
// much while another would answer.
func (r *Registry) patience(pass ticket, c call, until time.Time) time.Duration {
	patience := r.times.header
	if pass.probe && len(r.endpoints) > 1 && !c.background {
		patience = r.times.probe
	}
	return min(patience, time.Until(until))
}

// startClock ends an attempt that takes too long. Who had less than a fair chance is not blamed in full.
func (r *Registry) startClock(patience time.Duration, cancel context.CancelCauseFunc) *time.Timer {
	cause := errSlow
	if patience < min(r.times.fair, r.times.header) {
		cause = errHurried
	}
	return time.AfterFunc(patience, func() { cancel(cause) })
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

// judge turns every answer that is no success into an error, and a page for people as well.
func (r *Registry) judge(resp *http.Response) (*http.Response, error) {
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		defer discard(resp)
		return nil, r.statusError(resp)
	}
	if err := refuseWebPage(resp); err != nil {
		_ = resp.Body.Close() // a page may be long, and its connection is worth nothing
		return nil, err
	}
	return resp, nil
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
	case errors.Is(context.Cause(ctx), errHurried):
		return fmt.Errorf("%w: %w", ErrTimeout, context.DeadlineExceeded)
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
