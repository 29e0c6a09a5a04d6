package catalog

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxMediaTypes bounds how many different media types are remembered. Registries use a few dozen; the bound is there
	// because manifests may invent them without end.
	maxMediaTypes = 4096
	// maxMediaType is the longest media type in bytes that is remembered (RFC 6838: two names of 127 and a slash).
	maxMediaType = 255
)

// mediaTypes gives media types small numbers, so that a link takes two bytes for its type. Zero is no type.
type mediaTypes struct {
	mu      sync.Mutex // guards numbers, and orders the writers of names
	numbers map[string]uint16
	// names is indexed by number. It is replaced, never changed, because links are read without a lock on it.
	names atomic.Pointer[[]string]
}

func newMediaTypes() *mediaTypes {
	t := &mediaTypes{numbers: make(map[string]uint16)}
	t.names.Store(&[]string{""})
	return t
}

// number returns the number of a type, a new one when needed, or zero when there is no room for it.
func (t *mediaTypes) number(name string) uint16 {
	if name == "" || len(name) > maxMediaType {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.numbers[name]; ok {
		return n
	}
	names := *t.names.Load()
	if len(names) > maxMediaTypes {
		return 0
	}
	n := uint16(len(names))
	longer := append(slices.Clone(names), name)
	t.names.Store(&longer)
	t.numbers[name] = n
	return n
}

// name returns the type with that number.
func (t *mediaTypes) name(number uint16) string { return (*t.names.Load())[number] }

// shared returns a string equal to name that others use too, when there is one.
func (t *mediaTypes) shared(name string) string {
	if n := t.number(name); n != 0 {
		return t.name(n)
	}
	return name
}
