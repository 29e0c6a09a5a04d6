package mirror

import (
	"fmt"
	"strings"

	"mirror/internal/oci"
)

// Subject is what an operator names: a tag of a repository, or content by its digest, within a repository or wherever it
// is.
type Subject struct {
	Repository oci.Repository // zero for a digest alone
	Reference  oci.Reference
}

// String returns the subject as people write it, in full.
func (s Subject) String() string {
	switch {
	case s.Repository == oci.Repository{}:
		return s.Reference.String()
	case s.Reference.IsDigest():
		return s.Repository.String() + "@" + s.Reference.String()
	}
	return s.Repository.String() + ":" + s.Reference.Tag
}

// ParseSubject reads a digest, or the name of an image as users of this mirror write it: "alpine" is the tag latest of
// library/alpine of the default upstream. The registry need not be configured, because content may have outlived its
// configuration.
func (m *Mirror) ParseSubject(text string) (Subject, error) {
	if strings.HasPrefix(text, oci.SHA256.String()+":") || strings.HasPrefix(text, oci.SHA512.String()+":") {
		d, err := oci.ParseDigest(text)
		return Subject{Reference: oci.Reference{Digest: d}}, err
	}
	path, ref, err := oci.SplitImage(text)
	if err != nil {
		return Subject{}, err
	}
	repo, err := m.ParseRepository(path)
	return Subject{Repository: repo, Reference: ref}, err
}

// ParseRepository reads the name of a repository as users of this mirror write it.
func (m *Mirror) ParseRepository(text string) (oci.Repository, error) {
	registry, name := oci.SplitPath(text, func(registry string) bool {
		_, ok := m.Lookup(registry)
		return ok
	})
	if registry == "" {
		standard, ok := m.Default()
		if !ok {
			return oci.Repository{}, &oci.Error{Code: oci.NameInvalid, Message: fmt.Sprintf(
				"%.255q names no registry and no upstream is the default: write registry/name", text)}
		}
		return oci.FamiliarRepository(standard, name)
	}
	if canonical, ok := m.Lookup(registry); ok {
		registry = canonical
	}
	return oci.FamiliarRepository(registry, name)
}
