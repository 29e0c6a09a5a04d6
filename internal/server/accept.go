package server

import (
	"bytes"
	"strings"
)

// accepts reports whether a client that sent these Accept lines takes content of mediaType. Weights are ignored but
// for zero, which refuses: clients send the types in no order, and the mirror has one type to offer. No line, and
// lines without a single type, accept everything.
func accepts(lines [][]byte, mediaType string) bool {
	asked := false
	for _, line := range lines {
		for len(line) > 0 {
			var element []byte
			element, line, _ = bytes.Cut(line, []byte(","))
			pattern, params, _ := bytes.Cut(element, []byte(";"))
			if pattern = bytes.Trim(pattern, " \t"); len(pattern) == 0 {
				continue
			}
			asked = true
			if covers(pattern, mediaType) && !refused(params) {
				return true
			}
		}
	}
	return !asked
}

// covers reports whether a pattern of an Accept header includes mediaType. Types are case-insensitive.
func covers(pattern []byte, mediaType string) bool {
	if string(pattern) == "*/*" || string(pattern) == "*" {
		return true
	}
	if kind, ok := bytes.CutSuffix(pattern, []byte("/*")); ok {
		own, _, _ := strings.Cut(mediaType, "/")
		return equalFold(kind, own)
	}
	return equalFold(pattern, mediaType)
}

// refused reports whether the parameters of an element hold a weight of zero.
func refused(params []byte) bool {
	for len(params) > 0 {
		var param []byte
		param, params, _ = bytes.Cut(params, []byte(";"))
		name, value, _ := bytes.Cut(bytes.Trim(param, " \t"), []byte("="))
		if len(name) == 1 && name[0]|0x20 == 'q' {
			return len(value) > 0 && len(bytes.Trim(value, "0.")) == 0
		}
	}
	return false
}
