package cache

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"mirror/internal/oci"
)

// A journal is a small file beside a partial file that says which bytes of it can be relied on after a restart. It is one
// record, little-endian:
//
//	version      1 byte
//	digest       33 or 65 bytes (oci.Digest.AppendBinary)
//	size         8 bytes, -1 while unknown
//	hashed       8 bytes: how many bytes from the start the state has seen
//	state        2 bytes of length, then the state of the hash; of no length when nothing is hashed
//	spans        4 bytes of count, then 8 bytes of start and 8 bytes of end for each
//	checksum     4 bytes: CRC-32C of all before
const journalVersion = 1

// errJournal: a journal that is torn, of another version, or contradicts itself.
var errJournal = errors.New("journal is damaged")

// claim is what a journal says of a part. Each of its bytes was synced before the journal was written.
type claim struct {
	digest  oci.Digest
	size    int64 // of the whole content; -1 while unknown
	present spans
	// state is the hash after the first hashed bytes of the content.
	state  []byte
	hashed int64
}

// end returns the end of the last byte that is claimed.
func (c *claim) end() int64 {
	if len(c.present) == 0 {
		return 0
	}
	return c.present[len(c.present)-1].End
}

func (c *claim) encode() []byte {
	b := append([]byte{journalVersion}, c.digest.Binary()...)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.hashed))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(c.state)))
	b = append(b, c.state...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.present)))
	for _, s := range c.present {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Start))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.End))
	}
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decodeClaim is the inverse of encode. What it accepts is consistent in itself; whether the partial file goes with it is
// for the caller to see.
func decodeClaim(b []byte) (*claim, error) {
	if len(b) < 5 {
		return nil, fmt.Errorf("%w: it has %d bytes", errJournal, len(b))
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if checksum(body) != sum {
		return nil, fmt.Errorf("%w: checksum %08x, want %08x", errJournal, sum, checksum(body))
	}
	if body[0] != journalVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errJournal, body[0], journalVersion)
	}
	f := &fields{rest: body[1:]}
	c := &claim{}
	c.digest = f.digest()
	c.size, c.hashed = f.int64(), f.int64()
	c.state = append([]byte(nil), f.take(int(f.uint16()))...)
	c.present = f.spans()
	if f.short || len(f.rest) > 0 {
		return nil, fmt.Errorf("%w: its fields do not fit its length", errJournal)
	}
	return c, c.check()
}

// check reports a claim that contradicts itself.
func (c *claim) check() error {
	before := int64(-1) // spans neither overlap nor touch
	for _, s := range c.present {
		if s.Start <= before || s.End <= s.Start || c.size >= 0 && s.End > c.size {
			return fmt.Errorf("%w: span %d to %d after %d in %d bytes", errJournal, s.Start, s.End, before, c.size)
		}
		before = s.End
	}
	if c.size < -1 || c.hashed < 0 || c.hashed > c.present.endFrom(0) {
		return fmt.Errorf("%w: %d bytes hashed of %d present of %d", errJournal, c.hashed, c.present.endFrom(0), c.size)
	}
	if (c.hashed > 0) != (len(c.state) > 0) {
		return fmt.Errorf("%w: %d bytes hashed into a state of %d bytes", errJournal, c.hashed, len(c.state))
	}
	_, err := c.hash()
	return err
}

// hash returns a hash that has seen the first hashed bytes.
func (c *claim) hash() (hash.Hash, error) {
	h := c.digest.Hash()
	if len(c.state) == 0 {
		return h, nil
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(c.state); err != nil { // as do all hashes of the standard library
		return nil, fmt.Errorf("%w: %w", errJournal, err)
	}
	return h, nil
}

// appendState appends the state of a hash, which belongs to the caller meanwhile.
func appendState(b []byte, h hash.Hash) []byte {
	b, _ = h.(encoding.BinaryAppender).AppendBinary(b) // it never returns an error
	return b
}

// fields takes a record apart. After a field that is not there, short is set and all fields are zero.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if f.short || n > len(f.rest) {
		f.short = true
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) uint16() uint16 {
	if b := f.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if b := f.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (f *fields) int64() int64 {
	if b := f.take(8); b != nil {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// digest takes a digest, whose first byte tells its length.
func (f *fields) digest() oci.Digest {
	if len(f.rest) == 0 {
		f.short = true
		return oci.Digest{}
	}
	n := 1 + oci.Algorithm(f.rest[0]).New().Size()
	d, err := oci.DigestFromBinary(f.take(n))
	f.short = f.short || err != nil
	return d
}

// spans takes a count and as many spans. What the count says is believed only as far as there are bytes.
func (f *fields) spans() spans {
	n := int64(f.uint32())
	if f.short || n*16 > int64(len(f.rest)) {
		f.short = true
		return nil
	}
	present := make(spans, n)
	for i := range present {
		present[i] = Span{f.int64(), f.int64()}
	}
	return present
}
