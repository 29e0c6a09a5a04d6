package oci

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Algorithm names a digest algorithm that the image specification registers. The zero value is none.
type Algorithm uint8

// The registered algorithms. Any other is refused, because content under it could not be verified.
const (
	SHA256 Algorithm = iota + 1
	SHA512
)

// String returns the name as it stands in a digest, "sha256" or "sha512".
func (a Algorithm) String() string {
	switch a {
	case SHA256:
		return "sha256"
	case SHA512:
		return "sha512"
	}
	return "none"
}

// size is the length of the algorithm's sum in bytes.
func (a Algorithm) size() int {
	switch a {
	case SHA256:
		return sha256.Size
	case SHA512:
		return sha512.Size
	}
	return 0
}

// New returns a running hash of the algorithm, of SHA256 when the algorithm is none.
func (a Algorithm) New() hash.Hash {
	if a == SHA512 {
		return sha512.New()
	}
	return sha256.New()
}

// Digest names immutable content by algorithm and sum. It is comparable, so it serves as a map key, and holds no
// pointer. The zero value names nothing; a Digest from ParseDigest is never zero.
type Digest struct {
	alg Algorithm
	sum [sha512.Size]byte
}

// ParseDigest reads "sha256:<64 lower-case hex>" or "sha512:<128 lower-case hex>" without allocating. Everything else
// is an *Error with code DIGEST_INVALID that says what would be right.
func ParseDigest[T ~string | ~[]byte](text T) (Digest, error) {
	colon := -1
	for i := 0; i < len(text); i++ {
		if text[i] == ':' {
			colon = i
			break
		}
	}
	if colon < 0 {
		return Digest{}, digestError("digest %q has no algorithm: want sha256:<64 hex> or sha512:<128 hex>", text)
	}
	d := Digest{alg: algorithmNamed(text[:colon])}
	if d.alg == 0 {
		return Digest{}, digestError("algorithm of digest %q is not supported: want sha256 or sha512", text)
	}
	encoded := text[colon+1:]
	if len(encoded) != 2*d.alg.size() {
		return Digest{}, digestError("digest %q has %d characters after the colon: %s has %d",
			text, len(encoded), d.alg, 2*d.alg.size())
	}
	for i := range d.alg.size() {
		high, low := unhex(encoded[2*i]), unhex(encoded[2*i+1])
		if high > 15 || low > 15 {
			return Digest{}, digestError("digest %q is not lower-case hexadecimal", text)
		}
		d.sum[i] = high<<4 | low
	}
	return d, nil
}

// MustParseDigest is ParseDigest for constants; it panics on a bad one.
func MustParseDigest(text string) Digest {
	d, err := ParseDigest(text)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return d
}

func digestError[T ~string | ~[]byte](format string, text T, args ...any) *Error {
	quoted := string(text[:min(len(text), 160)])
	return &Error{Code: DigestInvalid, Message: fmt.Sprintf(format, append([]any{quoted}, args...)...)}
}

func algorithmNamed[T ~string | ~[]byte](name T) Algorithm {
	switch string(name) {
	case "sha256":
		return SHA256
	case "sha512":
		return SHA512
	}
	return 0
}

// unhex returns the value of a lower-case hexadecimal digit, or 255. Upper case is refused on purpose: two spellings of
// one digest would be two keys elsewhere.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// DigestOf returns the digest of body under the algorithm, the zero Digest when the algorithm is none.
func DigestOf(alg Algorithm, body []byte) Digest {
	d := Digest{alg: alg}
	switch alg {
	case SHA256:
		sum := sha256.Sum256(body)
		copy(d.sum[:], sum[:])
	case SHA512:
		d.sum = sha512.Sum512(body)
	default:
		return Digest{}
	}
	return d
}

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d.alg == 0 }

// Algorithm returns the digest's algorithm.
func (d Digest) Algorithm() Algorithm { return d.alg }

// Sum64 returns the first eight bytes of the sum as a number, evenly spread: good for choosing a shard. Two digests may
// share it, and somebody who wants to can make them share it.
func (d Digest) Sum64() uint64 {
	var v uint64
	for _, b := range d.sum[:8] {
		v = v<<8 | uint64(b)
	}
	return v
}

// Compare orders digests as their text forms are ordered.
func (d Digest) Compare(other Digest) int {
	if d.alg != other.alg {
		return int(d.alg) - int(other.alg)
	}
	return bytes.Compare(d.sum[:], other.sum[:])
}

// Hash returns a fresh running hash under d's algorithm.
func (d Digest) Hash() hash.Hash { return d.alg.New() }

// Matches reports whether what h has hashed so far has the digest d. The hash must be of d's algorithm.
func (d Digest) Matches(h hash.Hash) bool {
	var sum [sha512.Size]byte
	return !d.IsZero() && bytes.Equal(h.Sum(sum[:0]), d.sum[:d.alg.size()])
}

// Verifies reports whether body has the digest d. Nothing has the zero digest.
func (d Digest) Verifies(body []byte) bool { return !d.IsZero() && DigestOf(d.alg, body) == d }

// AppendTo appends the text form to b and returns the result; with room in b it does not allocate. The text form of the
// zero value is empty.
func (d Digest) AppendTo(b []byte) []byte {
	if d.IsZero() {
		return b
	}
	b = append(b, d.alg.String()...)
	b = append(b, ':')
	return hex.AppendEncode(b, d.sum[:d.alg.size()])
}

// Encoded returns the hexadecimal part.
func (d Digest) Encoded() string { return hex.EncodeToString(d.sum[:d.alg.size()]) }

// String returns the text form, "sha256:…".
func (d Digest) String() string {
	return string(d.AppendTo(make([]byte, 0, 7+2*sha512.Size)))
}

// MarshalText writes the text form.
func (d Digest) MarshalText() ([]byte, error) { return d.AppendTo(nil), nil }

// UnmarshalText reads the text form. Empty text is an error, as for ParseDigest.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(text)
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// AppendBinary appends the short form for keys and records: one byte of algorithm, then the raw sum (33 or 65 bytes).
func (d Digest) AppendBinary(b []byte) ([]byte, error) {
	return append(append(b, byte(d.alg)), d.sum[:d.alg.size()]...), nil
}

// Binary returns the short form of AppendBinary.
func (d Digest) Binary() []byte {
	b, _ := d.AppendBinary(make([]byte, 0, 1+sha512.Size))
	return b
}

// DigestFromBinary reads the short form. Anything but exactly one digest is an error.
func DigestFromBinary(b []byte) (Digest, error) {
	if len(b) == 0 {
		return Digest{}, fmt.Errorf("digest record is empty")
	}
	d := Digest{alg: Algorithm(b[0])}
	if d.alg.size() == 0 || len(b) != 1+d.alg.size() {
		return Digest{}, fmt.Errorf("digest record of %d bytes with algorithm %d is malformed", len(b), b[0])
	}
	copy(d.sum[:], b[1:])
	return d, nil
}

// FallbackTag returns the tag under which referrers of d are listed on registries without the referrers API:
// algorithm and encoded part joined by "-", cut to 32 and 64 characters (distribution specification, "Referrers Tag Schema").
func (d Digest) FallbackTag() string {
	encoded := d.Encoded()
	return strings.Join([]string{d.alg.String(), encoded[:min(len(encoded), 64)]}, "-")
}
