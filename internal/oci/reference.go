package oci

import (
	"fmt"
	"strings"
)

// maxTag is the longest legal tag in characters (distribution specification, "Pulling manifests").
const maxTag = 128

// Reference is the last part of a manifest's address: a tag or a digest, never both, never neither.
type Reference struct {
	Tag    string
	Digest Digest
}

// ParseReference reads a tag or a digest. A text with a colon can only be a digest, and is DIGEST_INVALID when it is
// none. An illegal tag is MANIFEST_UNKNOWN and not an invalid name: the conformance suite asks for
// ".INVALID_MANIFEST_NAME" and expects "not found".
func ParseReference(text string) (Reference, error) {
	if strings.Contains(text, ":") {
		d, err := ParseDigest(text)
		return Reference{Digest: d}, err
	}
	if !ValidTag(text) {
		return Reference{}, &Error{Code: ManifestUnknown, Message: fmt.Sprintf(
			"tag %q is not a legal tag: want 1 to %d of letters, digits, '_', '.', '-', not starting with '.' or '-'", cut(text), maxTag)}
	}
	return Reference{Tag: text}, nil
}

// IsDigest reports whether the reference names exact bytes.
func (r Reference) IsDigest() bool { return !r.Digest.IsZero() }

// String returns the tag or the digest's text form.
func (r Reference) String() string {
	if r.IsDigest() {
		return r.Digest.String()
	}
	return r.Tag
}

// ValidTag reports whether text is [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func ValidTag(text string) bool {
	if text == "" || len(text) > maxTag || text[0] == '.' || text[0] == '-' {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if !isLower(c) && !isDigit(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// cut bounds what a stranger sent before it is quoted in a message.
func cut(text string) string { return text[:min(len(text), 255)] }
