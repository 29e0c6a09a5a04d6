package server

import (
	"crypto/rand"
	"fmt"
)

// multipart is the shape of a multipart/byteranges body (RFC 9110, section 14.6): one part for each range, in the
// order in which they were asked for, nothing merged.
type multipart struct {
	boundary string
	parts    []part
	tail     string
	// length is that of the whole body in bytes, what stands between the parts included.
	length int64
}

// newMultipart lays out the body for spans of a blob of size bytes.
func newMultipart(spans []span, size int64) multipart {
	m := multipart{boundary: rand.Text(), parts: make([]part, len(spans))}
	lead := ""
	for i, s := range spans {
		m.parts[i] = part{span: s, head: fmt.Sprintf("%s--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n",
			lead, m.boundary, typeOctetStream, s.contentRange(size))}
		m.length += int64(len(m.parts[i].head)) + s.n
		lead = "\r\n"
	}
	m.tail = "\r\n--" + m.boundary + "--\r\n"
	m.length += int64(len(m.tail))
	return m
}

func (m multipart) contentType() string { return "multipart/byteranges; boundary=" + m.boundary }
