package catalog

import (
	"crypto/sha256"
	"crypto/sha512"
	"iter"

	"mirror/internal/oci"
)

// digestMap is a map by digest that spends 32 bytes on a SHA-256 key. An oci.Digest as the key would take 65, room for
// SHA-512 that almost nothing uses. The zero value is an empty map. Values should hold no pointers, so that the garbage
// collector need not look inside a large map.
type digestMap[V any] struct {
	short map[[sha256.Size]byte]V // by the sum of a SHA-256 digest
	long  map[oci.Digest]V        // every other algorithm
}

// shortKey returns the sum when d is of SHA-256.
func shortKey(d oci.Digest) (sum [sha256.Size]byte, ok bool) {
	if d.Algorithm() != oci.SHA256 {
		return sum, false
	}
	var room [1 + sha512.Size]byte
	record, err := d.AppendBinary(room[:0])
	if err != nil {
		return sum, false
	}
	copy(sum[:], record[1:])
	return sum, true
}

// digest is the reverse of shortKey.
func digest(sum [sha256.Size]byte) oci.Digest {
	var record [1 + sha256.Size]byte
	record[0] = byte(oci.SHA256)
	copy(record[1:], sum[:])
	d, err := oci.DigestFromBinary(record[:])
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return d
}

func (m *digestMap[V]) get(d oci.Digest) (V, bool) {
	if sum, ok := shortKey(d); ok {
		v, ok := m.short[sum]
		return v, ok
	}
	v, ok := m.long[d]
	return v, ok
}

func (m *digestMap[V]) set(d oci.Digest, v V) {
	if sum, ok := shortKey(d); ok {
		if m.short == nil {
			m.short = make(map[[sha256.Size]byte]V)
		}
		m.short[sum] = v
		return
	}
	if m.long == nil {
		m.long = make(map[oci.Digest]V)
	}
	m.long[d] = v
}

func (m *digestMap[V]) delete(d oci.Digest) {
	if sum, ok := shortKey(d); ok {
		delete(m.short, sum)
		return
	}
	delete(m.long, d)
}

// all goes through digests and values, in no order.
func (m *digestMap[V]) all() iter.Seq2[oci.Digest, V] {
	return func(yield func(oci.Digest, V) bool) {
		for sum, v := range m.short {
			if !yield(digest(sum), v) {
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
