package oci

import (
	"fmt"
	"strings"
)

const (
	// dockerHub is the one registry whose images have names of a single component.
	dockerHub = "docker.io"
	// hubLibrary is where it keeps them.
	hubLibrary = "library/"
	// defaultTag is the tag of an image's name that says none.
	defaultTag = "latest"
)

// FamiliarRepository is NewRepository for names as people write them: Docker Hub keeps images of one component under
// library/, which users leave out.
func FamiliarRepository(registry, name string) (Repository, error) {
	if registry == dockerHub && name != "" && !strings.Contains(name, "/") {
		name = hubLibrary + name
	}
	return NewRepository(registry, name)
}

// SplitImage takes the name of an image apart: "alpine", "ghcr.io/org/app:v1", "ghcr.io/org/app@sha256:…". The path is what
// names registry and repository, which cannot be told apart without knowing the registries. A name with a tag and a
// digest means the digest, one with neither the tag "latest". The path is not checked beyond being there.
func SplitImage(text string) (path string, ref Reference, err error) {
	named, digest, exact := strings.Cut(text, "@")
	path, tag := splitTag(named)
	if path == "" {
		return "", Reference{}, imageError(text, "has no repository")
	}
	if exact {
		ref.Digest, err = ParseDigest(digest)
		return path, ref, err
	}
	if tag == "" {
		tag = ":" + defaultTag
	}
	if !ValidTag(tag[1:]) {
		return "", Reference{}, imageError(text, "has no legal tag after its last colon")
	}
	return path, Reference{Tag: tag[1:]}, nil
}

// splitTag cuts the name at the colon before a tag, which the tag keeps: the last one, unless it belongs to a registry's
// port.
func splitTag(named string) (path, tag string) {
	colon := strings.LastIndexByte(named, ':')
	if colon < 0 || colon < strings.LastIndexByte(named, '/') {
		return named, ""
	}
	return named[:colon], named[colon:]
}

func imageError(text, reason string) *Error {
	return &Error{Code: NameInvalid, Message: fmt.Sprintf(
		"image %q %s: want a name such as alpine:3.20, ghcr.io/org/app:v1 or ghcr.io/org/app@sha256:<64 hex>", cut(text), reason)}
}

// SplitPath takes the path of an image's name apart at the registry, for a registry that isKnown or that looks like a
// host. Without one, registry is empty.
func SplitPath(path string, isKnown func(registry string) bool) (registry, name string) {
	first, rest, deep := strings.Cut(path, "/")
	if deep && (isKnown(first) || strings.ContainsAny(first, ".:") || first == "localhost") {
		return first, rest
	}
	return "", path
}
