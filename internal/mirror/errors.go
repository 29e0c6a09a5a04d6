package mirror

import (
	"context"
	"errors"

	"mirror/internal/cache"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// ErrNoUpstream means that the configuration names no upstream for the registry that was asked for.
var ErrNoUpstream = errors.New("no upstream is configured for this registry")

// What operators may be told about what they name.
var (
	// ErrNotHeld means that there is no such tag, or that the content is not in the cache, or not known to be the
	// repository's.
	ErrNotHeld = errors.New("is not held here: mirror list shows what is")
	// ErrPinned means that content is pinned and so not removed.
	ErrPinned = errors.New("is pinned: unpin it first")
	// ErrNotPinned means that there is no pin of its own to take back.
	ErrNotPinned = errors.New("has no pin of its own: mirror list shows what is pinned")
)

// ErrNeverHeld means that something was never here, and that the configuration keeps its registry from being asked. It comes
// with an upstream.ErrOffline; without it, the thing is known, and its bytes are not here.
var ErrNeverHeld = errors.New("never held, and its registry is offline by configuration")

// calm reports whether stale content is a better answer than the error: the upstream is down, slow, limits us or talks
// nonsense. When it says that content is gone or denied, that is the answer.
func calm(err error) bool {
	return errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrTooManyRequests) ||
		errors.Is(err, upstream.ErrWrongContent) || errors.Is(err, context.DeadlineExceeded)
}

// silence reports whether the error says that the upstream as a whole gives no answer, and not a bad one about one path.
func silence(err error) bool {
	_, answered := errors.AsType[*upstream.StatusError](err)
	return !answered && (errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded))
}

// sourceError is a failure of a fill's source, with the repository through which the source was asked.
type sourceError struct {
	repo  oci.Repository
	cause error
}

// Error returns the cause, which names the upstream and the path.
func (e *sourceError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *sourceError) Unwrap() error { return e.cause }

// foreign reports whether the error is another repository's: whoever joined a fill that was started through that one has
// learnt nothing about his own.
func foreign(err error, repo oci.Repository) bool {
	source, ok := errors.AsType[*sourceError](err)
	return ok && source.repo != repo
}

// storeTrouble reports whether the error is about keeping content, not about getting it.
func storeTrouble(err error) bool {
	return errors.Is(err, cache.ErrNoRoom) || errors.Is(err, cache.ErrDisk)
}
