package server

import (
	"bytes"
	"fmt"
	"net/url"

	"mirror/internal/oci"
)

// maxQueryValue is the longest value of a parameter that is taken, in bytes and escaped. Names and media types have 255
// characters at most; the rest is for the page of a referrers list, which an upstream writes, in up to 1 KiB.
const maxQueryValue = 4096

// query holds the parameters that the mirror knows, decoded. All others are dropped: what a stranger adds must not
// reach an upstream.
type query struct {
	// ns is the registry that the client means.
	ns string
	// n and last choose a page of tags.
	n, last string
	// artifactType filters referrers, and page continues a list of them where an earlier answer said.
	artifactType, page string
}

// parseQuery reads the raw text after the question mark. Of a parameter that occurs twice the first counts, except
// that two different values of ns are an error: two readers could choose differently.
func parseQuery(raw []byte) (query, error) {
	var q query
	for len(raw) > 0 {
		var pair []byte
		pair, raw, _ = bytes.Cut(raw, []byte("&"))
		key, value, _ := bytes.Cut(pair, []byte("="))
		field := q.field(string(key))
		if field == nil || len(value) == 0 {
			continue
		}
		text, err := decodeValue(string(key), value)
		if err != nil {
			return q, err
		}
		if field == &q.ns && q.ns != "" && q.ns != text {
			return q, nameInvalid("ns is given twice, with different values")
		}
		if *field == "" {
			*field = text
		}
	}
	return q, nil
}

// field returns where the value of a key belongs, or nil.
func (q *query) field(key string) *string {
	switch key {
	case "ns":
		return &q.ns
	case "n":
		return &q.n
	case "last":
		return &q.last
	case "artifactType":
		return &q.artifactType
	case "page":
		return &q.page
	}
	return nil
}

func decodeValue(key string, value []byte) (string, error) {
	if len(value) > maxQueryValue {
		return "", queryRefused("%s is longer than %d bytes", key, maxQueryValue)
	}
	text, err := url.QueryUnescape(string(value))
	if err != nil {
		return "", queryRefused("%s is not escaped as a query value must be", key)
	}
	return text, nil
}

// queryRefused is a bad parameter. The specification has no code for it; UNSUPPORTED is the nearest.
func queryRefused(format string, args ...any) error {
	return &refusal{status: 400, code: oci.Unsupported, message: "query parameter " + fmt.Sprintf(format, args...)}
}
