package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mirror/internal/oci"
)

// maxTagList bounds a page of tags, in bytes. Registries without paging send all tags at once, and some repositories
// have a hundred thousand.
const maxTagList = 16 << 20

// TagPage is a part of the list of tags.
type TagPage struct {
	Tags []string // never nil
	More bool     // there are tags after the last one
}

// Tags lists tags of a repository after the tag last, at most n of them; n <= 0 leaves the number to the upstream. The
// order is the upstream's.
func (r *Registry) Tags(ctx context.Context, name string, n int, last string) (TagPage, error) {
	page, err := r.tags(ctx, name, n, last)
	return page, r.named(err)
}

func (r *Registry) tags(ctx context.Context, name string, n int, last string) (TagPage, error) {
	if err := r.permit(name); err != nil {
		return TagPage{}, err
	}
	query := url.Values{}
	if n > 0 {
		query.Set("n", strconv.Itoa(n))
	}
	if last != "" {
		query.Set("last", last)
	}
	c := call{
		kind: kindTags, method: http.MethodGet, repository: name, path: "/v2/" + name + "/tags/list",
		query: query.Encode(), accept: "application/json",
	}
	doc, err := r.fetch(ctx, c, maxTagList)
	if err != nil {
		return TagPage{}, err
	}
	page, err := readTags(doc, n, last)
	if err != nil {
		return TagPage{}, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	return page, nil
}

func readTags(doc document, n int, last string) (TagPage, error) {
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(doc.body, &list); err != nil {
		return TagPage{}, fmt.Errorf("%w: the list of tags is not JSON of the known form", ErrWrongContent)
	}
	page := TagPage{Tags: slices.DeleteFunc(list.Tags, func(tag string) bool { return !oci.ValidTag(tag) })}
	if page.Tags == nil {
		page.Tags = []string{}
	}
	// An upstream that ignores last would send the first page again for ever.
	for i := len(page.Tags) - 1; last != "" && i >= 0; i-- {
		if page.Tags[i] == last {
			page.Tags = page.Tags[i+1:]
			break
		}
	}
	_, page.More = nextLink(doc.header)
	if n > 0 && len(page.Tags) > n {
		page.Tags, page.More = page.Tags[:n], true
	}
	return page, nil
}

// nextLink returns the target of the Link header that leads to the next page (RFC 8288, as far as registries use it).
func nextLink(header http.Header) (string, bool) {
	for _, line := range header.Values("Link") {
		for line != "" {
			_, rest, _ := strings.Cut(line, "<")
			target, rest, closed := strings.Cut(rest, ">")
			params, more, _ := strings.Cut(rest, ",")
			if closed && target != "" && strings.Contains(strings.ReplaceAll(strings.ToLower(params), `"`, ""), "rel=next") {
				return target, true
			}
			line = more
		}
	}
	return "", false
}
