package mirror

import (
	"errors"
	"fmt"
	"time"

	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// unauthorizedFor is how long it is remembered that the mirror's own credentials were refused. It is short, because the
// operator will renew them and try.
const unauthorizedFor = 5 * time.Second

// refusals are the answers of an upstream that are remembered for a while. What is special stands first.
var refusals = []error{
	upstream.ErrUnknownRepository, upstream.ErrNoRepository, upstream.ErrNotFound, upstream.ErrDenied, upstream.ErrUnauthorized,
}

// refusalIn returns the refusal in an error, or nil.
func refusalIn(err error) error {
	for _, known := range refusals {
		if errors.Is(err, known) {
			return known
		}
	}
	return nil
}

// noteRefusal remembers for a while that the upstream does not have something, or not for us.
func (m *Mirror) noteRefusal(up *upstream.Registry, key name, err error) {
	if refused := refusalIn(err); refused != nil {
		m.refused.add(key, refused, lifeOf(refused, freshnessOf(up, key)))
	}
}

func freshnessOf(up *upstream.Registry, key name) upstream.Freshness {
	if key.ref.IsDigest() {
		return up.Freshness()
	}
	return up.TagFreshness(key.repo.Name, key.ref.Tag)
}

func lifeOf(refused error, f upstream.Freshness) time.Duration {
	if errors.Is(refused, upstream.ErrUnauthorized) {
		return min(f.MissingFor, unauthorizedFor)
	}
	return f.MissingFor
}

// refusal returns what the upstream said a moment ago, or nil when it is to be asked.
func (m *Mirror) refusal(key name) error {
	refused, ok := m.refused.get(key)
	return remembered(key.repo, refused, ok)
}

func remembered(repo oci.Repository, refused error, ok bool) error {
	if !ok {
		return nil
	}
	return fmt.Errorf("upstream %s: %w (answered from memory of a moment ago)", repo.Registry, refused)
}

func errOffline(repo oci.Repository) error {
	return fmt.Errorf("upstream %s: %w", repo.Registry, upstream.ErrOffline)
}

// offline adds to the failure of a registry that is offline what it means that the thing was never here.
func (m *Mirror) offline(repo oci.Repository, ref oci.Reference, err error) error {
	if !errors.Is(err, upstream.ErrOffline) || m.knows(repo, ref) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNeverHeld, err)
}

// knows reports whether something was ever seen in a repository.
func (m *Mirror) knows(repo oci.Repository, ref oci.Reference) bool {
	if !ref.IsDigest() {
		_, known := m.catalog.Tag(repo, ref.Tag)
		return known
	}
	_, known := m.catalog.Link(repo, ref.Digest)
	return known
}
