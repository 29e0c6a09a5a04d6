package peer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// Request is what a signature covers of a request between members: everything that its meaning hangs on, as it is on the
// wire. Fields that a request does not have are empty.
type Request struct {
	// Method and Target are the request line: GET, and the path with its query.
	Method, Target string
	// Range is the Range header.
	Range string
	// Hop counts the members that the request has passed.
	Hop string
	// Dead and Slow are the lists of members that the sender found dead, or too slow.
	Dead, Slow string
	// OnlyIfCached asks for what is here, and forbids to get it from somewhere.
	OnlyIfCached bool
}

// Answer is what a signature covers of an answer whose content no digest checks: what a tag names.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Digest, MediaType and Size describe the manifest that the tag names.
	Digest, MediaType string
	Size              int64
	// Age says how many seconds ago the registry was asked.
	Age string
}

// Proof is a signed request: who asked whom, and the signature. It ties the answer to its request.
type Proof struct {
	Sender, Receiver string
	mac              [sha256.Size]byte
}

// maxSkew is how far the time of a request may be from the receiver's clock. Clocks that are set by NTP differ by far
// less; a longer time would need more memory for the requests that were seen in it.
const maxSkew = 60 * time.Second

// Signer signs and checks what members say to each other, under the secret of the cluster. It may be used by any number
// of goroutines.
type Signer struct {
	name string
	keys atomic.Pointer[[][]byte] // of which the first signs
	seen memory
}

// NewSigner returns a signer for the node of that name.
func NewSigner(name string, s Secret) *Signer {
	signer := &Signer{name: name}
	signer.Rotate(s)
	return signer
}

// Rotate replaces the keys. What was signed under a key that stays is accepted before and after.
func (s *Signer) Rotate(secret Secret) { s.keys.Store(&secret.ring.mac) }

// Sign returns the Authorization header of a request to the member named to, and what its answer is checked with.
func (s *Signer) Sign(to string, r Request) (header string, p Proof) {
	a := authorization{node: s.name, unix: time.Now().Unix()}
	rand.Read(a.nonce[:])
	p = Proof{Sender: s.name, Receiver: to}
	a.sum((*s.keys.Load())[0], to, r, &a.mac)
	p.mac = a.mac
	return a.String(), p
}

// Verify tells who sent a request to this node. The error matches ErrUnsigned, ErrForged, ErrClock, ErrReplayed or
// ErrCrowded. A request that was accepted is not accepted a second time.
func (s *Signer) Verify(header string, r Request) (Proof, error) {
	a, err := parseAuthorization(header)
	if err != nil {
		return Proof{}, err
	}
	if !s.signed(func(key []byte, sum *[sha256.Size]byte) { a.sum(key, s.name, r, sum) }, a.mac) {
		return Proof{}, fmt.Errorf("%w: it claims to come from %s", ErrForged, a.node)
	}
	now := time.Now()
	if off := now.Sub(time.Unix(a.unix, 0)); off.Abs() > maxSkew {
		return Proof{}, fmt.Errorf("%w: %s is %s off, at most %s is accepted", ErrClock, a.node, off.Abs().Round(time.Second), maxSkew)
	}
	if err := s.seen.add(binary.BigEndian.Uint64(a.mac[:]), now); err != nil {
		return Proof{}, fmt.Errorf("%w: from %s", err, a.node)
	}
	return Proof{Sender: a.node, Receiver: s.name, mac: a.mac}, nil
}

// SignAnswer returns the signature of the answer to a request that was verified.
func (s *Signer) SignAnswer(p Proof, a Answer) string {
	var sum [sha256.Size]byte
	p.sum((*s.keys.Load())[0], a, &sum)
	return encoding.EncodeToString(sum[:])
}

// VerifyAnswer checks the signature of the answer to a request that was signed here. The error is ErrForged: whoever
// answered does not know the secret, or something on the way has changed the answer.
func (s *Signer) VerifyAnswer(p Proof, a Answer, signature string) error {
	var mac [sha256.Size]byte
	if !decode(mac[:], signature) {
		return fmt.Errorf("%w: the answer of %s has no signature", ErrForged, p.Receiver)
	}
	if !s.signed(func(key []byte, sum *[sha256.Size]byte) { p.sum(key, a, sum) }, mac) {
		return fmt.Errorf("%w: the answer claims to come from %s", ErrForged, p.Receiver)
	}
	return nil
}

// signed tells whether mac is the sum under one of the keys.
func (s *Signer) signed(sum func(key []byte, sum *[sha256.Size]byte), mac [sha256.Size]byte) bool {
	var want [sha256.Size]byte
	for _, key := range *s.keys.Load() {
		sum(key, &want)
		if hmac.Equal(want[:], mac[:]) {
			return true
		}
	}
	return false
}

// sum computes the signature of a request. The name of the receiver is part of it, so that a request cannot be shown to
// another member.
func (a *authorization) sum(key []byte, receiver string, r Request, sum *[sha256.Size]byte) {
	digest(key, sum, "mirror peer request 1", a.node, receiver, strconv.FormatInt(a.unix, 10), string(a.nonce[:]),
		r.Method, r.Target, r.Range, r.Hop, r.Dead, r.Slow, strconv.FormatBool(r.OnlyIfCached))
}

// sum computes the signature of an answer.
func (p Proof) sum(key []byte, a Answer, sum *[sha256.Size]byte) {
	digest(key, sum, "mirror peer answer 1", p.Sender, p.Receiver, string(p.mac[:]),
		strconv.Itoa(a.Status), a.Digest, a.MediaType, strconv.FormatInt(a.Size, 10), a.Age)
}

// digest computes HMAC-SHA256 over fields, each behind its length, so that no byte can move from one to the next.
func digest(key []byte, sum *[sha256.Size]byte, fields ...string) {
	h := hmac.New(sha256.New, key)
	buf := make([]byte, 0, 1024)
	for _, field := range fields {
		buf = binary.BigEndian.AppendUint64(buf, uint64(len(field)))
		buf = append(buf, field...)
	}
	h.Write(buf)
	h.Sum(sum[:0])
}
