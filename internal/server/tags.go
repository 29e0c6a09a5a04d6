package server

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"

	"mirror/internal/oci"
)

// maxTagsPage is the most tags in one answer; a longer list has a link to its next page. Registries of large clouds
// refuse to give more at a time.
const maxTagsPage = 1000

// tagList is the body of a tags answer.
type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// serveTags answers a tags list, one page.
func (s *Server) serveTags(ctx context.Context, x *exchange) error {
	n, err := pageLength(x.route.query.n)
	if err != nil {
		return err
	}
	if last := x.route.query.last; last != "" && !oci.ValidTag(last) {
		return queryRefused("last is not a legal tag: give the last tag of the page before")
	}
	list := tagList{Name: x.route.name, Tags: []string{}}
	if n == 0 {
		return x.sendTags(list)
	}
	page, err := s.mirror.Tags(ctx, x.route.repository, n, x.route.query.last)
	if err != nil {
		return err
	}
	if len(page.Tags) > 0 {
		list.Tags = page.Tags
	}
	if page.More && len(page.Tags) > 0 {
		x.linkNext("tags/list", url.Values{"n": {strconv.Itoa(n)}, "last": {page.Tags[len(page.Tags)-1]}})
	}
	warn(&x.ctx.Response.Header, page.Warning)
	return x.sendTags(list)
}

func (x *exchange) sendTags(list tagList) error {
	document, err := json.Marshal(list)
	if err != nil {
		return err
	}
	x.sendDocument(typeJSON, document)
	return nil
}

// pageLength reads n. Absent means as many as a page may have; more than that is cut.
func pageLength(n string) (int, error) {
	if n == "" {
		return maxTagsPage, nil
	}
	length := 0
	for _, c := range []byte(n) {
		if c < '0' || c > '9' {
			return 0, queryRefused("n is not a number of tags: give 0 to %d", maxTagsPage)
		}
		length = min(length*10+int(c-'0'), maxTagsPage)
	}
	return length, nil
}

// linkNext adds the link to the next page. It stays on this mirror, with the prefix and the ns that led here.
func (x *exchange) linkNext(rest string, values url.Values) {
	if x.route.query.ns != "" {
		values.Set("ns", x.route.query.ns)
	}
	base := "/v2/"
	if x.route.prefix != "" {
		base = "/" + url.PathEscape(x.route.prefix) + base
	}
	x.set("Link", "<"+base+x.route.name+"/"+rest+"?"+values.Encode()+`>; rel="next"`)
}
