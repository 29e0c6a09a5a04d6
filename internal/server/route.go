package server

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"mirror/internal/oci"
)

// kind is what a request asks for. Its text is the label in metrics and the word in the access log.
type kind uint8

const (
	kindOther kind = iota
	kindPing
	kindManifest
	kindBlob
	kindTags
	kindReferrers
	kinds // how many there are
)

// String returns "other", "ping", "manifest", "blob", "tags" or "referrers".
func (k kind) String() string {
	return [kinds]string{"other", "ping", "manifest", "blob", "tags", "referrers"}[k]
}

// route is what a request asks for, in the domain's words. Nothing in it borrows from the connection's buffers.
type route struct {
	address
	query query
	// repository is what the mirror is asked for, registry resolved.
	repository oci.Repository
	// reference is what manifests are asked by; blobs and referrers have a digest in it.
	reference oci.Reference
	// namespace is the registry when the request named it, and empty when the Host header or the default chose it.
	namespace string
}

// address is a path taken apart, before anybody asked whether its registry is known.
type address struct {
	kind kind
	// prefix is the component before /v2, empty when there is none.
	prefix string
	// name is the repository name as the client wrote it.
	name string
	// last is the last component of a manifest, blob or referrers path.
	last string
}

// parseRoute turns the raw path, raw query and host of a request into a route. The kind is right even when the rest
// is not, so that refusals are counted where they belong.
func parseRoute(known registries, path, rawQuery, host []byte) (route, error) {
	a, err := parsePath(path)
	r := route{address: a}
	if err != nil {
		return r, err
	}
	if r.query, err = parseQuery(rawQuery); err != nil {
		return r, err
	}
	s, err := resolve(known, a, r.query.ns, string(host))
	if err != nil {
		return r, err
	}
	r.namespace = s.namespace()
	if a.kind == kindPing {
		return r, nil
	}
	if r.repository, err = s.repository(); err != nil {
		return r, err
	}
	r.reference, err = a.reference()
	return r, err
}

// reference reads the last component as what its kind allows.
func (a address) reference() (oci.Reference, error) {
	switch a.kind {
	case kindManifest:
		return oci.ParseReference(a.last)
	case kindBlob, kindReferrers:
		d, err := oci.ParseDigest(a.last)
		return oci.Reference{Digest: d}, err
	}
	return oci.Reference{}, nil
}

// parsePath takes the raw path apart. It works on the raw bytes because a cleaned path hides what was really asked:
// two spellings of one path must not be two answers in front of a proxy that compares them.
func parsePath(raw []byte) (address, error) {
	text, err := plainPath(raw)
	if err != nil {
		return address{}, err
	}
	if err := checkComponents(text); err != nil {
		return address{}, err
	}
	prefix, rest, ok := splitBase(text)
	if !ok {
		return address{}, notServed(text)
	}
	if rest == "" {
		return address{kind: kindPing, prefix: prefix}, nil
	}
	a, err := parseRest(rest)
	a.prefix = prefix
	return a, err
}

// splitBase cuts "/v2/" or "/<prefix>/v2/" off. What remains is empty for the base itself, with or without its slash.
func splitBase(text string) (prefix, rest string, ok bool) {
	if rest, ok = cutBase(text); ok {
		return "", rest, true
	}
	slash := strings.IndexByte(text[1:], '/') + 1
	if slash == 0 {
		return "", "", false
	}
	rest, ok = cutBase(text[slash:])
	return text[1:slash], rest, ok
}

func cutBase(text string) (rest string, ok bool) {
	if text == "/v2" {
		return "", true
	}
	return strings.CutPrefix(text, "/v2/")
}

// parseRest reads what follows the base from the right, because the words of the grammar are legal parts of names.
func parseRest(rest string) (address, error) {
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return address{kind: kindTags, name: name}, nil
	}
	front, last := cutLast(rest)
	name, word := cutLast(front)
	a := address{name: name, last: last}
	switch {
	case word == "uploads" && strings.HasSuffix("/"+name, "/blobs"):
		return address{}, uploadsRefused()
	case last == "":
		return address{}, nameInvalid("the path ends in a slash")
	case word == "manifests":
		a.kind = kindManifest
	case word == "blobs":
		a.kind = kindBlob
	case word == "referrers":
		a.kind = kindReferrers
	default:
		return address{}, notServed(rest)
	}
	return a, nil
}

// cutLast cuts the last component off.
func cutLast(path string) (front, last string) {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return "", path
	}
	return path[:slash], path[slash+1:]
}

// checkComponents refuses what a proxy in front might clean away: empty components and dots. A slash at the very end
// is left to the caller.
func checkComponents(text string) error {
	rest := text[1:]
	for {
		component, tail, more := strings.Cut(rest, "/")
		switch {
		case component == "" && more:
			return nameInvalid("the path has an empty component")
		case component == "." || component == "..":
			return nameInvalid("the path has a component of dots")
		case !more:
			return nil
		}
		rest = tail
	}
}

// plainPath returns the path with its harmless escapes undone, once. Anything that a second reader could understand
// in another way is refused: no legal name, tag or digest needs it.
func plainPath(raw []byte) (string, error) {
	if len(raw) == 0 || raw[0] != '/' {
		return "", nameInvalid("the path does not begin with a slash")
	}
	plain, escaped := raw, false
	for i, c := range raw {
		switch {
		case c <= ' ' || c == 0x7f || c == '\\':
			return "", nameInvalid("the path holds a blank, a control byte or a backslash")
		case c == '%' && !escaped:
			plain, escaped = append(make([]byte, 0, len(raw)), raw[:i]...), true
		}
	}
	if escaped {
		var err error
		if plain, err = unescape(plain, raw[len(plain):]); err != nil {
			return "", err
		}
	}
	if !utf8.Valid(plain) {
		return "", nameInvalid("the path is not UTF-8")
	}
	return string(plain), nil
}

// unescape appends raw to plain with its escapes undone.
func unescape(plain, raw []byte) ([]byte, error) {
	for len(raw) > 0 {
		c := raw[0]
		if c != '%' {
			plain, raw = append(plain, c), raw[1:]
			continue
		}
		c, ok := escapedByte(raw)
		if !ok || c != ':' && !unreserved(c) {
			return nil, nameInvalid("the path holds an escape other than %3A or one of a letter, a digit, '-', '.', '_', '~'")
		}
		plain, raw = append(plain, c), raw[3:]
	}
	return plain, nil
}

// escapedByte returns the byte that the escape at the front of raw stands for.
func escapedByte(raw []byte) (byte, bool) {
	if len(raw) < 3 {
		return 0, false
	}
	high, ok1 := hexValue(raw[1])
	low, ok2 := hexValue(raw[2])
	return high<<4 | low, ok1 && ok2
}

func hexValue(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unreserved reports whether a byte means the same escaped and plain (RFC 3986, section 2.3).
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func nameInvalid(fault string) error {
	return &oci.Error{Code: oci.NameInvalid, Message: fault + ": write /v2/<name>/manifests/<reference> or /v2/<name>/blobs/<digest>"}
}

func notServed(path string) error {
	return &oci.Error{Code: oci.NameUnknown, Message: fmt.Sprintf(
		"%q is no address of this mirror: it serves /v2/, and below it manifests, blobs, tags/list and referrers of a repository",
		path[:min(len(path), 255)])}
}

func uploadsRefused() error {
	return &oci.Error{Code: oci.Unsupported, Message: "this mirror takes no uploads: push to the registry itself"}
}
