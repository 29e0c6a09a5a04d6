package server

import (
	"fmt"
	"strings"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// dockerHub is the one registry that cannot have a dot in the first component of a name.
const dockerHub = "docker.io"

// registries knows which registries are configured. Nothing here is ever dialled: a name is looked up or refused.
type registries interface {
	// Lookup returns the canonical name of a registry that a client may call by several.
	Lookup(registry string) (string, bool)
	// LookupHost returns the registry served under a virtual host name.
	LookupHost(host string) (string, bool)
	// Default returns the registry of requests that name none.
	Default() (string, bool)
}

var _ registries = (*mirror.Mirror)(nil)

// scope is a registry and the name that remains once it is known.
type scope struct {
	registry string
	name     string
	// named says that the request itself names the registry, by ns, path prefix or first component.
	named bool
}

// namespace returns what the OCI-Namespace header says, or nothing.
func (s scope) namespace() string {
	if s.named {
		return s.registry
	}
	return ""
}

// repository checks the name.
func (s scope) repository() (oci.Repository, error) {
	return oci.FamiliarRepository(s.registry, s.name)
}

// resolve finds the registry that a request means. The first that applies wins: the ns parameter, the path prefix, the
// first component of the name, the virtual host, the default.
func resolve(known registries, a address, ns, host string) (scope, error) {
	if ns != "" {
		return resolveNamespace(known, a, ns)
	}
	if a.prefix != "" {
		registry, err := lookup(known, a.prefix)
		return scope{registry, a.name, true}, err
	}
	if a.kind == kindPing {
		return scope{}, nil
	}
	if first, rest, ok := strings.Cut(a.name, "/"); ok {
		if registry, ok := known.Lookup(first); ok {
			return scope{registry, rest, true}, nil
		}
	}
	if registry, ok := known.LookupHost(host); ok {
		return scope{registry, a.name, false}, nil
	}
	return resolveDefault(known, a)
}

// resolveNamespace serves clients that send ns. Some of them repeat the registry as first component of the name
// (BuildKit, and containerd with override_path); it is stripped once. Any other name is the repository's own: a
// registry behind us may have a project that is called like another registry.
func resolveNamespace(known registries, a address, ns string) (scope, error) {
	registry, err := lookup(known, ns)
	if err != nil {
		return scope{}, err
	}
	if a.prefix != "" {
		other, err := lookup(known, a.prefix)
		if err != nil {
			return scope{}, err
		}
		if other != registry {
			return scope{}, nameInvalid("ns and the path name different registries")
		}
	}
	s := scope{registry, a.name, true}
	if first, rest, ok := strings.Cut(a.name, "/"); ok {
		if same, ok := known.Lookup(first); ok && same == registry {
			s.name = rest
		}
	}
	return s, nil
}

// resolveDefault serves clients that name no registry. A first component with a dot can only be meant as a host when
// the default is Docker Hub, so it is refused here: the name of somebody's private registry must not travel there.
func resolveDefault(known registries, a address) (scope, error) {
	registry, ok := known.Default()
	if !ok {
		return scope{}, &oci.Error{Code: oci.NameUnknown, Message: "the request names no registry and this mirror has no default one: " +
			"add ?ns=<registry>, or write /v2/<registry>/<name>"}
	}
	s := scope{registry, a.name, false}
	if first, _, deep := strings.Cut(a.name, "/"); registry == dockerHub && deep && strings.Contains(first, ".") {
		// A name that is not legal anyway is refused as such, by the caller.
		if _, err := s.repository(); err == nil {
			return scope{}, unknownRegistry(first)
		}
	}
	return s, nil
}

func lookup(known registries, name string) (string, error) {
	if registry, ok := known.Lookup(name); ok {
		return registry, nil
	}
	return "", unknownRegistry(name)
}

func unknownRegistry(name string) error {
	return &oci.Error{Code: oci.NameUnknown, Message: fmt.Sprintf(
		"registry %q is not served by this mirror: pull from it directly, or ask the operator to add it to upstreams",
		name[:min(len(name), 255)])}
}
