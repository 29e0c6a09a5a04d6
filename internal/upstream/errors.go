package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"mirror/internal/oci"
)

// What the upstream said about the content. It answered, and asking again now gives the same answer.
var (
	// ErrNotFound: the upstream does not have what was asked for (404, 410).
	ErrNotFound = errors.New("not found")
	// ErrUnknownRepository: the upstream wants credentials and none are configured. The repository does not exist or is
	// private; registries do not tell which. It is an ErrNotFound.
	ErrUnknownRepository = fmt.Errorf("%w: the repository does not exist or needs credentials, and none are configured", ErrNotFound)
	// ErrNoRepository: the upstream says that there is no such repository (NAME_UNKNOWN). It is an ErrNotFound.
	ErrNoRepository = fmt.Errorf("%w: there is no such repository", ErrNotFound)
	// ErrDenied: the upstream refuses access (403), or wants credentials sent to a place that they must not go to.
	ErrDenied = errors.New("access denied")
	// ErrUnauthorized: the upstream refuses the configured credentials, or they cannot be read.
	ErrUnauthorized = errors.New("credentials refused")
	// ErrTooManyRequests: the upstream's rate limit (429), or limits.requests of the configuration, is used up.
	ErrTooManyRequests = errors.New("too many requests")
	// ErrNotAllowed: allow and deny of the configuration exclude the repository. The upstream was not asked.
	ErrNotAllowed = errors.New("repository is not allowed by the configuration")
)

// What is wrong with the upstream.
var (
	// ErrUnavailable: no endpoint gave a usable answer: name resolution, dial, TLS, reset, 5xx, or breaker open.
	ErrUnavailable = errors.New("unavailable")
	// ErrTimeout: the upstream did not answer in time. It is an ErrUnavailable.
	ErrTimeout = fmt.Errorf("%w: no answer in time", ErrUnavailable)
	// ErrOffline: offline of the configuration keeps the upstream from being asked. It is an ErrUnavailable.
	ErrOffline = fmt.Errorf("%w: offline by configuration", ErrUnavailable)
	// ErrWrongContent: the upstream answered with something that is not what was asked for: another digest, a web page,
	// a wrong range, a redirect that must not be followed.
	ErrWrongContent = errors.New("wrong content")
	// ErrTooLarge: a document is longer than the limit for its kind.
	ErrTooLarge = errors.New("too large")
)

// StatusError is an answer of an upstream, or of a place that it pointed to, that is no success. It unwraps to the
// sentinel that says what the status means.
type StatusError struct {
	Registry string
	Method   string
	URL      string // without user information, query and fragment
	Status   int
	Code     oci.Code // of the first error in the body; empty when the body has none
	Message  string   // at most 512 bytes of what the body says, printable
	// RetryAfter is how long the upstream wants to be left alone; zero when it did not say.
	RetryAfter time.Duration

	meaning error
	advice  string // what the operator can do, if anything
}

// Error reads like "GET https://registry-1.docker.io/v2/library/x/manifests/1: 404 Not Found, MANIFEST_UNKNOWN: …".
func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		fmt.Fprintf(&b, ", %s", e.Code)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.meaning != nil {
		fmt.Fprintf(&b, " (%v)", e.meaning)
	}
	if e.advice != "" {
		fmt.Fprintf(&b, ": %s", e.advice)
	}
	return b.String()
}

// Unwrap returns the sentinel.
func (e *StatusError) Unwrap() error { return e.meaning }

// BreakerError says that a request was not sent, because the endpoint failed a moment ago. It is an ErrUnavailable.
type BreakerError struct {
	Endpoint string // without user information
	// RetryAfter is the time until the endpoint is tried again.
	RetryAfter time.Duration
	// Last is the failure that opened the breaker.
	Last error
}

// Error reads like "endpoint https://ghcr.io is left alone for 5s after: …".
func (e *BreakerError) Error() string {
	return fmt.Sprintf("endpoint %s is left alone for %v after: %v", e.Endpoint, e.RetryAfter.Round(time.Millisecond), e.Last)
}

// Unwrap returns ErrUnavailable. Last is left out on purpose: that an old request timed out says nothing of this one.
func (e *BreakerError) Unwrap() error { return ErrUnavailable }

// PauseError says that a request was not sent, because a rate limit is used up: the upstream's, as it said a moment ago, or
// limits.requests of the configuration. It is an ErrTooManyRequests.
type PauseError struct {
	// RetryAfter is how long the pause lasts from now on; zero when the upstream did not say.
	RetryAfter time.Duration

	reason error
}

// Error reads like "too many requests: the upstream's rate limit is used up, and nothing is sent for 42s".
func (e *PauseError) Error() string {
	if e.RetryAfter == 0 {
		return fmt.Sprintf("%v, and nothing is sent for a moment", e.reason)
	}
	return fmt.Sprintf("%v, and nothing is sent for %v", e.reason, e.RetryAfter.Round(time.Second))
}

// Unwrap returns the reason, which is an ErrTooManyRequests.
func (e *PauseError) Unwrap() error { return e.reason }

// Relayed is what a status of an upstream means that another mirror has met: the same as here.
func Relayed(status int, retryAfter time.Duration) error {
	switch status {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusForbidden:
		return ErrDenied
	case http.StatusTooManyRequests:
		return &PauseError{RetryAfter: retryAfter, reason: ErrTooManyRequests}
	}
	return ErrUnavailable
}

// RetryAfter returns how long to wait before asking again, as the upstream, a rate limit or the breaker says, or zero when neither
// said anything.
func RetryAfter(err error) time.Duration {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.RetryAfter
	}
	if pause, ok := errors.AsType[*PauseError](err); ok {
		return pause.RetryAfter
	}
	if open, ok := errors.AsType[*BreakerError](err); ok {
		return open.RetryAfter
	}
	return 0
}
