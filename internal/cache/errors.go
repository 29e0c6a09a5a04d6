package cache

import (
	"errors"
	"fmt"

	"mirror/internal/oci"
)

// What a lookup or a fill can end with. Errors of a fill's source come through as they are, wrapped.
var (
	// ErrNotFound: neither stored nor being filled.
	ErrNotFound = errors.New("not in the cache")
	// ErrWrongContent: the source delivered bytes that do not have the digest or the size they should have.
	ErrWrongContent = errors.New("content is not what its digest names")
	// ErrNoRange: the source cannot start in the middle of the content. A FillFunc returns it, and the fill asks for
	// everything from the start instead.
	ErrNoRange = errors.New("source does not deliver ranges")
	// ErrBusy: the source takes no more requests at the moment. A FillFunc returns it, and the fill goes on with those that
	// are running, and asks for no more at once.
	ErrBusy = errors.New("source takes no more requests at the moment")
	// ErrNoRoom: the size limit leaves no room and nothing can be evicted. The content may still be passed through.
	ErrNoRoom = errors.New("no room in the cache")
	// ErrDisk: the data directory could not be read or written. The content may still be passed through.
	ErrDisk = errors.New("disk trouble in the data directory")
	// ErrSuspect: wrong bytes came for this content a moment ago, so no piece of it is given away before it is verified.
	ErrSuspect = errors.New("wrong bytes came for this content a moment ago")
	// ErrNoSpan: a piece was asked for that the content does not have.
	ErrNoSpan = errors.New("content has no such bytes")
	// ErrClosed: the cache is shutting down.
	ErrClosed = errors.New("cache is closed")
	// ErrAbandoned: a long fill was stopped because nobody was reading it any more; what it has is kept for the next.
	ErrAbandoned = errors.New("fill was abandoned by all readers")
)

// errRetired: a fill on demand has ended, because no pieces are asked for any more, or the content came by another way.
var errRetired = errors.New("fill on demand has ended")

// errBeyondEnd is a caller's mistake: a range that the blob does not have.
var errBeyondEnd = errors.New("BUG: range beyond the end of the blob")

func wrongDigest(want oci.Digest) error {
	return fmt.Errorf("%w: the bytes received do not hash to %s", ErrWrongContent, want)
}

func wrongSize(want, got int64) error {
	return fmt.Errorf("%w: want %d bytes, the source announces %d", ErrWrongContent, want, got)
}

func diskError(verb string, err error) error { return fmt.Errorf("%s: %w: %w", verb, ErrDisk, err) }
