package oci

import (
	"fmt"
	"strings"
)

const (
	// maxName bounds registry, slash and name together, as many clients do (distribution specification, "Pulling").
	maxName = 255
	// maxComponents bounds the depth of a name; no registry allows as many.
	maxComponents = 32
)

// Repository is a name within a registry. Registry is a host as people write it in image names ("docker.io",
// "registry.example:5000"), Name is the rest ("library/debian").
type Repository struct {
	Registry string
	Name     string
}

// NewRepository checks name against the specification's grammar. A bad name is an *Error with code NAME_INVALID.
func NewRepository(registry, name string) (Repository, error) {
	if len(registry)+1+len(name) > maxName {
		return Repository{}, nameError(name, "is too long: registry and name together have at most 255 characters")
	}
	if reason := nameFault(name); reason != "" {
		return Repository{}, nameError(name, reason)
	}
	return Repository{Registry: registry, Name: name}, nil
}

// String returns registry and name as people write them.
func (r Repository) String() string { return r.Registry + "/" + r.Name }

func nameError(name, reason string) *Error {
	return &Error{Code: NameInvalid, Message: fmt.Sprintf("repository name %q %s", cut(name), reason)}
}

// nameFault returns what is wrong with name, or nothing.
func nameFault(name string) string {
	components := 0
	for part := range strings.SplitSeq(name, "/") {
		if components++; components > maxComponents {
			return "has too many components: at most 32"
		}
		if part == "" {
			return "has an empty component"
		}
		if !validComponent(part) {
			return "is not legal: components are lower-case letters and digits, joined by '.', '_', '__' or dashes"
		}
	}
	return ""
}

// validComponent reports whether part is [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*.
func validComponent(part string) bool {
	separator := 0 // the length of the run of separators before position i
	for i := range len(part) {
		c := part[i]
		if isLower(c) || isDigit(c) {
			separator = 0
			continue
		}
		if i == 0 || i == len(part)-1 {
			return false
		}
		switch {
		case c == '-' && (separator == 0 || part[i-1] == '-'):
		case c == '_' && (separator == 0 || separator == 1 && part[i-1] == '_'):
		case c == '.' && separator == 0:
		default:
			return false
		}
		separator++
	}
	return true
}
