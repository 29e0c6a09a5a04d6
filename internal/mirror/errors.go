package mirror

import (
	"context"
	"errors"

	"mirror/internal/cache"
	"mirror/internal/upstream"
)

// ErrNoUpstream means that the configuration names no upstream for the registry that was asked for.
var ErrNoUpstream = errors.New("no upstream is configured for this registry")

// calm reports whether stale content is a better answer than the error: the upstream is down, slow, limits us or talks
// nonsense. When it says that content is gone or denied, that is the answer.
func calm(err error) bool {
	return errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrTooManyRequests) ||
		errors.Is(err, upstream.ErrWrongContent) || errors.Is(err, context.DeadlineExceeded)
}

// storeTrouble reports whether the error is about keeping content, not about getting it.
func storeTrouble(err error) bool {
	return errors.Is(err, cache.ErrNoRoom) || errors.Is(err, cache.ErrDisk)
}
