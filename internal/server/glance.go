package server

import "bytes"

// glance is what a quick answer needs to know of a request. It borrows from the bytes that it was read from.
type glance struct {
	head        bool
	path, query []byte // raw
	host        []byte
	requestID   []byte
	ranges      []byte // the value of Range; nil without one
	accept      [glanceAccepts][]byte
	accepts     int
}

// glanceAccepts is how many Accept lines are kept. Docker sends nine.
const glanceAccepts = 16

// at reads the request at the front of b and returns its length. It takes only what every reader understands in the same
// way, and what asks for content and nothing else. ok is false for all other requests, whole or not, which says nothing
// of them: whoever reads them properly will.
func (g *glance) at(b []byte) (length int, ok bool) {
	*g = glance{}
	line, rest, found := cutLine(b)
	if !found || !g.requestLine(line) {
		return 0, false
	}
	for {
		if line, rest, found = cutLine(rest); !found {
			return 0, false
		}
		if len(line) == 0 {
			return len(b) - len(rest), g.host != nil
		}
		if !g.header(line) {
			return 0, false
		}
	}
}

// cutLine cuts at the first line break, which must be a whole one.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 1 || b[end-1] != '\r' {
		return nil, nil, false
	}
	return b[:end-1], b[end+1:], true
}

// requestLine reads "GET /path?query HTTP/1.1".
func (g *glance) requestLine(line []byte) bool {
	target, ok := bytes.CutPrefix(line, []byte("GET "))
	if !ok {
		if target, g.head = bytes.CutPrefix(line, []byte("HEAD ")); !g.head {
			return false
		}
	}
	if target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1")); !ok || len(target) == 0 || target[0] != '/' {
		return false
	}
	for _, c := range target {
		if c <= ' ' || c > '~' || c == '#' {
			return false
		}
	}
	g.path, g.query, _ = bytes.Cut(target, []byte("?"))
	return true
}

// header reads one line. It returns false for what changes the answer in a way that quick answers do not know.
func (g *glance) header(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return false
	}
	for _, c := range line[:colon] {
		if (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && (c < '0' || c > '9') {
			return false
		}
	}
	value := bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c > '~' {
			return false
		}
	}
	return g.field(line[:colon], value)
}

func (g *glance) field(name, value []byte) bool {
	switch name[0] | 0x20 {
	case 'a':
		if equalFold(name, "accept") {
			if g.accepts == glanceAccepts {
				return false
			}
			g.accept[g.accepts] = value
			g.accepts++
		}
	case 'h':
		if equalFold(name, "host") {
			if g.host != nil || !plainHost(value) {
				return false
			}
			g.host = value
		}
	case 'x':
		if equalFold(name, "x-request-id") {
			if g.requestID != nil || !saneID(value) {
				return false
			}
			g.requestID = value
		}
	case 'c':
		if equalFold(name, "connection") {
			return equalFold(value, "keep-alive")
		}
		return !equalFold(name, "content-length")
	case 'e':
		return !equalFold(name, "expect")
	case 'i': // If-None-Match and its kin
		return len(name) < 3 || name[2] != '-'
	case 'r':
		if equalFold(name, "range") {
			if g.ranges != nil || len(value) == 0 {
				return false
			}
			g.ranges = value
		}
	case 't': // Transfer-Encoding, TE, Trailer
		return false
	case 'u':
		return !equalFold(name, "upgrade")
	case 'v':
		return !equalFold(name, "via")
	}
	return true
}

// plainHost reports whether a host is a name or an IPv4 address, with a port or without: what nobody has to decode.
func plainHost(host []byte) bool {
	name, port, found := bytes.Cut(host, []byte(":"))
	for _, c := range name {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(name) > 0 && found == (len(port) > 0)
}

// equalFold compares ASCII without regard to case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
