package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// tags lists images, repository by repository.
func (a *api) tags(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	page, err := imagePageOf(m, r)
	if err != nil {
		return err
	}
	list := newStream(w, "tags")
	last, full := page.list(m, list)
	switch {
	case full:
		list.end(last.String(), nil)
	case page.isAll:
		blobs, bytes := m.Unreferenced()
		list.end("", &Unreferenced{blobs, bytes})
	default:
		list.end("", nil)
	}
	return nil
}

// imagePage says which images to list.
type imagePage struct {
	repositories []oci.Repository
	after        mirror.Subject
	limit        int  // zero is none
	isAll        bool // neither of the first two leaves anything out
}

func imagePageOf(m *mirror.Mirror, r *http.Request) (p imagePage, err error) {
	query, err := readQuery(r.URL.RawQuery, "repository", "n", "last")
	if err != nil {
		return p, err
	}
	if p.limit, err = readLimit(query["n"]); err != nil {
		return p, err
	}
	if p.after, err = readPlace(query["last"]); err != nil {
		return p, err
	}
	p.isAll = query["repository"] == "" && query["last"] == ""
	if query["repository"] == "" {
		p.repositories = m.Repositories()
		return p, nil
	}
	repo, err := m.ParseRepository(query["repository"])
	p.repositories = []oci.Repository{repo}
	return p, err
}

// readPlace reads the place in a list of images where the last page ended. It is a name in full, not as people write it.
func readPlace(text string) (s mirror.Subject, err error) {
	if text == "" {
		return s, nil
	}
	path, ref, err := oci.SplitImage(text)
	if err != nil {
		return s, err
	}
	registry, name, _ := strings.Cut(path, "/")
	if registry == "" || name == "" {
		return s, badRequest(fmt.Sprintf("last is %.255q: want the next of the page before, registry/name:tag or registry/name@digest", text))
	}
	return mirror.Subject{Repository: oci.Repository{Registry: registry, Name: name}, Reference: ref}, nil
}

// list writes images until there are as many as the limit, if there is one. It returns the last one, and whether others
// may follow. When the client has gone it stops.
func (p *imagePage) list(m *mirror.Mirror, list *stream) (last mirror.Subject, full bool) {
	for _, repo := range p.repositories {
		if repo.String() < p.after.Repository.String() {
			continue
		}
		for _, image := range m.Images(repo) {
			if mirror.CompareImages(image.Subject(), p.after) <= 0 {
				continue
			}
			if !list.add(tagOf(image)) {
				return last, false
			}
			if last = image.Subject(); list.count == p.limit {
				return last, true
			}
		}
	}
	return last, false
}

// blobs lists content.
func (a *api) blobs(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	selection, err := selectionOf(m, r)
	if err != nil {
		return err
	}
	list, next := newStream(w, "blobs"), ""
	err = m.Contents(selection, func(c mirror.Content) error {
		if !list.add(blobOf(c)) {
			return list.err
		}
		if list.count == selection.Limit {
			next = c.Digest.String()
		}
		return nil
	})
	if err == nil { // otherwise nobody listens any more
		list.end(next, nil)
	}
	return nil
}

func selectionOf(m *mirror.Mirror, r *http.Request) (s mirror.Selection, err error) {
	query, err := readQuery(r.URL.RawQuery, "repository", "unreferenced", "n", "last")
	if err != nil {
		return s, err
	}
	if query["repository"] != "" {
		if s.Repository, err = m.ParseRepository(query["repository"]); err != nil {
			return s, err
		}
	}
	if s.Unreferenced, err = readFlag("unreferenced", query["unreferenced"]); err != nil {
		return s, err
	}
	if s.Limit, err = readLimit(query["n"]); err != nil {
		return s, err
	}
	if query["last"] != "" {
		s.After, err = oci.ParseDigest(query["last"])
	}
	return s, err
}

// stream writes a list of any length as one JSON object, without holding it in memory.
type stream struct {
	out   *bufio.Writer
	json  *json.Encoder
	count int
	err   error // of the first write that failed; nothing is written after it
}

// newStream begins an answer whose list has the given name.
func newStream(w http.ResponseWriter, name string) *stream {
	writeHead(w, http.StatusOK)
	out := bufio.NewWriterSize(w, 32<<10)
	s := &stream{out: out, json: json.NewEncoder(out)}
	_, s.err = out.WriteString(`{"` + name + `":[`)
	return s
}

// add writes an entry, and reports whether it could.
func (s *stream) add(entry any) bool {
	if s.count > 0 && s.err == nil {
		s.err = s.out.WriteByte(',')
	}
	if s.err == nil {
		s.err = s.json.Encode(entry)
	}
	s.count++
	return s.err == nil
}

// end writes what comes after the list.
func (s *stream) end(next string, unreferenced *Unreferenced) {
	rest, err := json.Marshal(struct {
		Next         string        `json:"next,omitempty"`
		Unreferenced *Unreferenced `json:"unreferenced,omitempty"`
	}{next, unreferenced})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	_, _ = s.out.WriteString("]")
	if len(rest) > len("{}") {
		_, _ = s.out.WriteString(",")
	}
	_, _ = s.out.Write(append(rest[1:], '\n'))
	_ = s.out.Flush() // a client that has gone needs no end
}
