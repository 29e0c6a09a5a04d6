package admin

import (
	"fmt"
	"net/http"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

func (a *api) removeTag(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	subject, err := subjectOf(m, r.PathValue("reference"), r)
	if err != nil {
		return err
	}
	if subject.Reference.IsDigest() {
		return badRequest("this removes tags: content is removed by DELETE /api/v1/blobs/" + subject.String())
	}
	return a.remove(m, w, r, subject)
}

func (a *api) removeBlob(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	subject, err := subjectOf(m, r.PathValue("reference"), r)
	if err != nil {
		return err
	}
	if !subject.Reference.IsDigest() {
		return badRequest("this removes content by digest: a tag is removed by DELETE /api/v1/tags/" + subject.String())
	}
	return a.remove(m, w, r, subject)
}

// subjectOf reads what a path names, and makes sure that there is no query: who gives one means something by it.
func subjectOf(m *mirror.Mirror, text string, r *http.Request) (mirror.Subject, error) {
	if _, err := readQuery(r.URL.RawQuery); err != nil {
		return mirror.Subject{}, err
	}
	return m.ParseSubject(text)
}

func (a *api) remove(m *mirror.Mirror, w http.ResponseWriter, r *http.Request, subject mirror.Subject) error {
	freed, err := m.Remove(subject)
	if err != nil {
		return err
	}
	a.changed(w, r, "removed", Change{subject.String(), freed.Blobs, freed.Bytes})
	return nil
}

func (a *api) removeRepository(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	if _, err := readQuery(r.URL.RawQuery); err != nil {
		return err
	}
	repo, err := m.ParseRepository(r.PathValue("repository"))
	if err != nil {
		return err
	}
	freed, err := m.RemoveRepository(repo)
	if err != nil {
		return err
	}
	a.changed(w, r, "removed", Change{repo.String(), freed.Blobs, freed.Bytes})
	return nil
}

func (a *api) pin(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	return a.changePin(w, r, "pinned", m, m.Pin)
}

func (a *api) unpin(m *mirror.Mirror, w http.ResponseWriter, r *http.Request) error {
	return a.changePin(w, r, "unpinned", m, m.Unpin)
}

func (a *api) changePin(w http.ResponseWriter, r *http.Request, verb string, m *mirror.Mirror, change func(mirror.Subject) (mirror.Pinned, error)) error {
	query, err := readQuery(r.URL.RawQuery, "reference")
	if err != nil {
		return err
	}
	if query["reference"] == "" {
		return badRequest("the query names nothing: give reference=IMAGE or reference=DIGEST")
	}
	subject, err := m.ParseSubject(query["reference"])
	if err != nil {
		return err
	}
	pinned, err := change(subject)
	if err != nil {
		return err
	}
	// The digest says what a tag meant at this moment.
	exact := mirror.Subject{Repository: subject.Repository, Reference: oci.Reference{Digest: pinned.Digest}}
	a.changed(w, r, verb, Change{exact.String(), pinned.Blobs, pinned.Bytes})
	return nil
}

// changed answers, and writes the line by which one knows later who has changed what.
func (a *api) changed(w http.ResponseWriter, r *http.Request, verb string, c Change) {
	a.log.Info(fmt.Sprintf("%s %s %d blobs", hostOf(r), verb, c.Blobs), "reference", c.Reference, "bytes", c.Bytes)
	respond(w, http.StatusOK, c)
}
