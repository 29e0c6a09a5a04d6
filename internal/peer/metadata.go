package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// metadata is what a member tells about itself by gossip. Each change is a broadcast to the whole cluster, so nothing is
// in it that changes often, and it is packed: under 120 bytes with a zone of ordinary length.
//
//	byte       layout, 1
//	byte       lowest and highest version of the transfer protocol, a byte each
//	byte       reasons for refusing to own
//	byte       room class
//	8 bytes    start id, big endian
//	uvarint    chunk size
//	2 bytes    port of the transfer listener, big endian
//	text       its address, 0, 4 or 16 bytes; empty is the address of the gossip
//	text       zone
//
// A text is its length in one byte and its bytes. Later versions add fields at the end; what follows the last field that
// is known here is left unread.
type metadata struct {
	versions  Versions
	refuses   Refusal
	room      Room
	start     uint64
	chunkSize uint64
	port      uint16
	host      netip.Addr // zero when it is the address of the gossip
	zone      string
}

// layout is the first byte. Another one means that the order of the fields above does not hold.
const layout = 1

// maxZone is the longest name of a zone in bytes.
const maxZone = 63

// errMetadata is what a member said about itself and cannot be understood.
var errMetadata = errors.New("metadata that this version does not understand")

func (m metadata) append(b []byte) []byte {
	b = append(b, layout, m.versions.Min, m.versions.Max, byte(m.refuses), byte(m.room))
	b = binary.BigEndian.AppendUint64(b, m.start)
	b = binary.AppendUvarint(b, m.chunkSize)
	b = binary.BigEndian.AppendUint16(b, m.port)
	b = appendText(b, m.host.AsSlice())
	return appendText(b, []byte(m.zone))
}

func appendText(b, text []byte) []byte { return append(append(b, byte(len(text))), text...) }

// parseMetadata is given what any holder of the secret may send. The result shares no memory with b.
func parseMetadata(b []byte) (metadata, error) {
	f := fields{rest: b}
	if got := f.byte(); got != layout {
		return metadata{}, fmt.Errorf("%w: layout %d, want %d", errMetadata, got, layout)
	}
	m := metadata{versions: Versions{Min: f.byte(), Max: f.byte()}, refuses: Refusal(f.byte()), room: Room(f.byte())}
	m.start, m.chunkSize, m.port = f.uint64(), f.uvarint(), f.uint16()
	host := f.text()
	if len(host) > 0 {
		var ok bool
		if m.host, ok = netip.AddrFromSlice(host); !ok {
			return metadata{}, fmt.Errorf("%w: an address of %d bytes", errMetadata, len(host))
		}
	}
	m.zone = string(f.text())
	switch {
	case f.short:
		return metadata{}, fmt.Errorf("%w: %d bytes are too few", errMetadata, len(b))
	case len(m.zone) > maxZone:
		return metadata{}, fmt.Errorf("%w: a zone of %d bytes", errMetadata, len(m.zone))
	}
	return m, nil
}

// fields reads one field after another. Once one was cut off, all that follow are zero and short is true.
type fields struct {
	rest  []byte
	short bool
}

// zeros is what is read beyond the end.
var zeros [8]byte

func (f *fields) take(n int) []byte {
	if n > len(f.rest) {
		f.rest, f.short = nil, true
		return zeros[:min(n, len(zeros))]
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) byte() byte     { return f.take(1)[0] }
func (f *fields) uint16() uint16 { return binary.BigEndian.Uint16(f.take(2)) }
func (f *fields) uint64() uint64 { return binary.BigEndian.Uint64(f.take(8)) }

func (f *fields) uvarint() uint64 {
	value, n := binary.Uvarint(f.rest)
	f.take(max(n, 0))
	f.short = f.short || n <= 0
	return value
}

func (f *fields) text() []byte {
	n := int(f.byte())
	if n > len(f.rest) {
		f.rest, f.short = nil, true
		return nil
	}
	return f.take(n)
}
