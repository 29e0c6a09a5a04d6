package server

import (
	"bytes"

	"mirror/internal/oci"
)

// appendEntityTag appends the ETag of content: its digest, quoted. Content under a digest never changes, so the tag is
// strong.
func appendEntityTag(b []byte, d oci.Digest) []byte {
	return append(d.AppendTo(append(b, '"')), '"')
}

// matchesAny reports whether one of the If-None-Match lines names d: a star, or a list of tags that may be weak, and
// may lack the quotes, because proxies of other makers send them so.
func matchesAny(lines [][]byte, d oci.Digest) bool {
	for _, line := range lines {
		for len(line) > 0 {
			var tag []byte
			tag, line, _ = bytes.Cut(line, []byte(","))
			if matches(bytes.Trim(tag, " \t"), d) {
				return true
			}
		}
	}
	return false
}

func matches(tag []byte, d oci.Digest) bool {
	if len(tag) == 1 && tag[0] == '*' {
		return true
	}
	return namesDigest(unquote(bytes.TrimPrefix(tag, []byte("W/"))), d)
}

// rangeApplies reports whether an If-Range header leaves the Range header in force: it is absent, or the strong tag of
// d. Everything else, a date too, asks for the whole when in doubt.
func rangeApplies(ifRange []byte, d oci.Digest) bool {
	ifRange = bytes.Trim(ifRange, " \t")
	return len(ifRange) == 0 || namesDigest(unquote(ifRange), d)
}

func unquote(tag []byte) []byte {
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		return tag[1 : len(tag)-1]
	}
	return tag
}

// namesDigest compares without allocating.
func namesDigest(text []byte, d oci.Digest) bool {
	parsed, err := oci.ParseDigest(text)
	return err == nil && parsed == d
}
