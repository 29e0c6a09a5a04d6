package catalog

import "errors"

// Errors of Open.
var (
	// ErrInUse means that another process, or another Catalog of this one, has the file open.
	ErrInUse = errors.New("another process owns this data directory")
)

// Errors of a running catalog.
var (
	// ErrClosed means that a change came after Close and will not be written.
	ErrClosed = errors.New("catalog is closed")
)

// errDamaged means that the file, or a record in it, is not what this package wrote.
var errDamaged = errors.New("catalog file is damaged")
