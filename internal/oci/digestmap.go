package oci

import (
	"crypto/sha256"
	"iter"
)

// DigestMap is a map by digest that spends 32 bytes on a SHA-256 key. A Digest as the key of a Go map takes 65, room for
// SHA-512 that almost nothing uses, which is felt with a million keys. The zero value is an empty map. Like a Go map it is
// not safe for a change beside any other use.
type DigestMap[V any] struct {
	short map[[sha256.Size]byte]V // by the sum of a SHA-256 digest
	long  map[Digest]V            // every other
}

// shortKey returns the sum when d is of SHA-256.
func (d *Digest) shortKey() (sum [sha256.Size]byte, ok bool) {
	return [sha256.Size]byte(d.sum[:sha256.Size]), d.alg == SHA256
}

// Get returns the value of d and whether there is one.
func (m *DigestMap[V]) Get(d Digest) (v V, ok bool) {
	if sum, isShort := d.shortKey(); isShort {
		v, ok = m.short[sum]
	} else {
		v, ok = m.long[d]
	}
	return v, ok
}

// Set makes v the value of d.
func (m *DigestMap[V]) Set(d Digest, v V) {
	if sum, ok := d.shortKey(); ok {
		if m.short == nil {
			m.short = make(map[[sha256.Size]byte]V)
		}
		m.short[sum] = v
		return
	}
	if m.long == nil {
		m.long = make(map[Digest]V)
	}
	m.long[d] = v
}

// Delete forgets d, if it is there.
func (m *DigestMap[V]) Delete(d Digest) {
	if sum, ok := d.shortKey(); ok {
		delete(m.short, sum)
	} else {
		delete(m.long, d)
	}
}

// Len returns how many digests have a value.
func (m *DigestMap[V]) Len() int { return len(m.short) + len(m.long) }

// All goes through digests and values, in no order. As with a Go map, the loop may delete what it sees.
func (m *DigestMap[V]) All() iter.Seq2[Digest, V] {
	return func(yield func(Digest, V) bool) {
		for sum, v := range m.short {
			d := Digest{alg: SHA256}
			copy(d.sum[:], sum[:])
			if !yield(d, v) {
				return
			}
		}
		for d, v := range m.long {
			if !yield(d, v) {
				return
			}
		}
	}
}
