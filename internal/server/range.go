package server

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"mirror/internal/oci"
)

// maxRanges is how many ranges one request may ask for. Partial pullers of containers/image merge holes down to this
// number before they ask, and ask for fewer when they are told 400.
const maxRanges = 1024

// span is the bytes [off, off+n) of a blob.
type span struct {
	off, n int64
}

// contentRange is the value of a Content-Range header for s of a blob of size bytes.
func (s span) contentRange(size int64) string {
	b := strconv.AppendInt(append(make([]byte, 0, 64), "bytes "...), s.off, 10)
	b = strconv.AppendInt(append(b, '-'), s.off+s.n-1, 10)
	return string(strconv.AppendInt(append(b, '/'), size, 10))
}

// byteRange is one element of a Range header: first and last byte, or a suffix length with first -1.
type byteRange struct {
	first, last int64
}

// parseRange decides what a Range header means for a blob of size bytes.
//
//   - No spans: the header does not apply (another unit, malformed, an empty blob, more than the blob holds, or a set
//     of which only some can be served) and the whole blob is the answer. A set is answered completely or not at all,
//     because a client that asked for several ranges takes a single part for all of them.
//   - One span: a partial answer. Several: one part each, in the order asked for.
//   - An error: nothing of it can be served (416), or there are too many ranges (400).
//
// A range whose end is before its start could be ignored as malformed; it is refused as unsatisfiable instead, which
// tells the client that ranges as such do work.
func parseRange(header []byte, size int64) ([]span, error) {
	set, ok := cutUnit(header)
	if !ok || size == 0 {
		return nil, nil
	}
	ranges, ok := parseSet(set)
	if !ok || len(ranges) == 0 {
		return nil, nil
	}
	if len(ranges) > maxRanges {
		return nil, &refusal{status: 400, code: oci.Unsupported, message: fmt.Sprintf(
			"the request has more than %d ranges: ask for fewer at a time", maxRanges)}
	}
	spans, total := satisfy(ranges, size)
	switch {
	case len(spans) == 0:
		return nil, unsatisfiable(size)
	case len(spans) < len(ranges) || total > size:
		return nil, nil
	}
	return spans, nil
}

func unsatisfiable(size int64) error {
	return &refusal{status: 416, code: oci.Unsupported, contentRange: fmt.Sprintf("bytes */%d", size),
		message: fmt.Sprintf("the range lies outside of the blob, which has %d bytes", size)}
}

// cutUnit cuts "bytes=" off; the unit is case-insensitive (RFC 9110, section 14.1).
func cutUnit(header []byte) (set []byte, ok bool) {
	unit, set, ok := bytes.Cut(header, []byte("="))
	return set, ok && bytes.EqualFold(bytes.TrimSpace(unit), []byte("bytes"))
}

// parseSet reads a comma-separated set; empty elements are allowed and dropped. It stops one beyond the limit: the
// caller refuses the request anyway.
func parseSet(set []byte) ([]byteRange, bool) {
	var ranges []byteRange
	for len(set) > 0 && len(ranges) <= maxRanges {
		var element []byte
		element, set, _ = bytes.Cut(set, []byte(","))
		if element = bytes.Trim(element, " \t"); len(element) == 0 {
			continue
		}
		r, ok := parseElement(element)
		if !ok {
			return nil, false
		}
		ranges = append(ranges, r)
	}
	return ranges, true
}

// parseElement reads "a-b", "a-" or "-n".
func parseElement(element []byte) (byteRange, bool) {
	first, last, ok := bytes.Cut(element, []byte("-"))
	if !ok || len(first) == 0 && len(last) == 0 {
		return byteRange{}, false
	}
	r := byteRange{first: -1, last: math.MaxInt64}
	if len(first) > 0 {
		if r.first, ok = parsePosition(first); !ok {
			return byteRange{}, false
		}
	}
	if len(last) > 0 {
		if r.last, ok = parsePosition(last); !ok {
			return byteRange{}, false
		}
	}
	return r, true
}

// parsePosition reads digits only. A number beyond int64 is legal and means "very far", so it saturates at about an exabyte.
func parsePosition(digits []byte) (int64, bool) {
	var v int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		if v < math.MaxInt64/10 {
			v = v*10 + int64(c-'0')
		}
	}
	return v, true
}

// satisfy clamps ranges to the blob and leaves out those that lie outside. total is the length of what remains.
func satisfy(ranges []byteRange, size int64) (spans []span, total int64) {
	spans = make([]span, 0, len(ranges))
	for _, r := range ranges {
		if r.first < 0 {
			r = byteRange{first: size - min(r.last, size), last: size - 1}
		}
		r.last = min(r.last, size-1)
		if r.first > r.last {
			continue
		}
		s := span{off: r.first, n: r.last - r.first + 1}
		spans = append(spans, s)
		total += s.n
	}
	return spans, total
}
