package mirror

import (
	"context"
	"errors"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

const (
	// checkTimeout bounds the check of a tag that is here already: stale content now beats fresh content later.
	checkTimeout = 2500 * time.Millisecond
	// troubleFor is how long a tag whose check failed is served stale without another check.
	troubleFor = 5 * time.Second
	// troubleLimit cuts what an upstream may ask for with Retry-After.
	troubleLimit = time.Hour
)

// check is what the check of a tag found.
type check struct {
	tag catalog.Tag
	// fetched is set when the manifest had to be fetched; it is here even if it could not be stored.
	fetched *Manifest
}

// byTag returns the manifest that a tag names. A fresh tag needs nobody. Another is checked with the upstream, once
// however many ask; when the upstream cannot be asked, the tag is served stale.
func (m *Mirror) byTag(ctx context.Context, up *upstream.Registry, key tagName) (*Manifest, error) {
	tag, known := m.catalog.Tag(key.repo, key.tag)
	age := time.Since(tag.CheckedAt)
	switch {
	case known && 0 <= age && age < up.Freshness().FreshFor: // a negative age is from when the clock was ahead
		return m.named(ctx, up, key, tag)
	case m.missing.has(name{key.repo, oci.Reference{Tag: key.tag}, manifestKind}):
		return nil, errMissing(key.repo)
	case known && age < up.Freshness().StaleFor:
		return m.checked(ctx, up, key, tag)
	}
	f, joined := m.startCheck(ctx, up, key, tag)
	found, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	return m.found(ctx, up, key, found, joined)
}

// checked serves a tag that is known and no longer fresh. While its upstream is known to be in trouble, the stale answer
// goes out at once and the check runs behind it.
func (m *Mirror) checked(ctx context.Context, up *upstream.Registry, key tagName, tag catalog.Tag) (*Manifest, error) {
	troubled, waiting := m.troubled.state(key)
	if waiting {
		return m.stale(ctx, up, key, tag)
	}
	f, joined := m.startCheck(ctx, up, key, tag)
	if troubled || !up.Available() {
		return m.stale(ctx, up, key, tag)
	}
	ctx2, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	found, err := f.wait(ctx2)
	if err != nil && calm(err) {
		m.trouble(key, err) // the check may still run: it may be the new manifest that does not come
		return m.stale(ctx, up, key, tag)
	}
	if err != nil {
		return nil, err
	}
	return m.found(ctx, up, key, found, joined)
}

// found serves what a check has found.
func (m *Mirror) found(ctx context.Context, up *upstream.Registry, key tagName, found *check, joined bool) (*Manifest, error) {
	switch {
	case found.fetched == nil:
		return m.named(ctx, up, key, found.tag)
	case joined:
		return found.fetched.as(Join, Upstream), nil
	}
	return found.fetched, nil
}

// named serves the manifest that a tag is known to name.
func (m *Mirror) named(ctx context.Context, up *upstream.Registry, key tagName, tag catalog.Tag) (*Manifest, error) {
	return m.byDigest(ctx, up, key.repo, tag.Descriptor.Digest)
}

// stale serves a tag that could not be checked, and says so.
func (m *Mirror) stale(ctx context.Context, up *upstream.Registry, key tagName, tag catalog.Tag) (*Manifest, error) {
	manifest, err := m.named(ctx, up, key, tag)
	if err != nil {
		return nil, err
	}
	s := manifest.as(Stale, manifest.Source)
	s.Warning = "tag " + key.tag + " was last checked " + time.Since(tag.CheckedAt).Round(time.Second).String() +
		" ago; " + key.repo.Registry + " cannot be asked now"
	return s, nil
}

// startCheck starts the check of a tag, or joins the one that runs. known is the zero Tag when the tag is not here.
func (m *Mirror) startCheck(ctx context.Context, up *upstream.Registry, key tagName, known catalog.Tag) (f *flight[*check], joined bool) {
	detached := m.detached(ctx)
	return m.checks.start(key, &m.running, func() (*check, error) {
		if now, ok := m.catalog.Tag(key.repo, key.tag); ok && now.CheckedAt.After(known.CheckedAt) {
			return &check{tag: now}, nil // since the caller looked
		}
		found, err := m.check(detached, up, key, known)
		switch {
		case err == nil:
			m.troubled.forget(key)
		case calm(err) && !known.Descriptor.Digest.IsZero():
			m.trouble(key, err)
		}
		return found, err
	})
}

// trouble notes that a known tag could not be checked.
func (m *Mirror) trouble(key tagName, err error) {
	m.troubled.add(key, min(max(troubleFor, upstream.RetryAfter(err)), troubleLimit))
}

// check asks the upstream what a tag names now. Only a digest that is not here is fetched.
func (m *Mirror) check(ctx context.Context, up *upstream.Registry, key tagName, known catalog.Tag) (*check, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if known.Descriptor.Digest.IsZero() {
		return m.fetchTag(ctx, up, key)
	}
	patience := fetchTimeout // nothing but the answer will do
	if time.Since(known.CheckedAt) < up.Freshness().StaleFor {
		patience = checkTimeout
	}
	headCtx, cancelHead := context.WithTimeout(ctx, patience)
	defer cancelHead()
	d, err := up.HeadManifest(headCtx, key.repo.Name, oci.Reference{Tag: key.tag})
	if err != nil {
		return nil, m.forgetMissing(up, key, err)
	}
	if d.Digest.IsZero() {
		return m.fetchTag(ctx, up, key) // this upstream does not tell digests
	}
	return m.move(ctx, up, key, known, d.Digest)
}

// move lets a tag name the digest that the upstream told. The bytes are here before the tag names them.
func (m *Mirror) move(ctx context.Context, up *upstream.Registry, key tagName, known catalog.Tag, d oci.Digest) (*check, error) {
	if _, here := m.cache.Stat(d); here && d == known.Descriptor.Digest {
		return m.unmoved(key, known), nil
	}
	manifest, err := m.byDigest(ctx, up, key.repo, d)
	if errors.Is(err, upstream.ErrNotFound) {
		return m.fetchTag(ctx, up, key) // it has moved on since the HEAD
	}
	if err != nil {
		return nil, err
	}
	return m.setTag(key, manifest), nil
}

// unmoved notes that a tag names what it named before. A touch does not replace a time that is still to come, which a
// clock that was ahead has left.
func (m *Mirror) unmoved(key tagName, known catalog.Tag) *check {
	now := time.Now()
	if known.CheckedAt.After(now) {
		return m.setTag(key, &Manifest{Descriptor: known.Descriptor, Outcome: Hit})
	}
	m.catalog.Touch(key.repo, key.tag, known.Descriptor.Digest, now)
	known.CheckedAt = now
	return &check{tag: known}
}

// fetchTag gets a manifest by tag.
func (m *Mirror) fetchTag(ctx context.Context, up *upstream.Registry, key tagName) (*check, error) {
	manifest, err := m.fetch(ctx, up, key.repo, oci.Reference{Tag: key.tag})
	if err != nil {
		return nil, m.forgetMissing(up, key, err)
	}
	return m.setTag(key, manifest), nil
}

// setTag makes a tag name a manifest whose bytes are stored and linked.
func (m *Mirror) setTag(key tagName, manifest *Manifest) *check {
	tag := catalog.Tag{Descriptor: manifest.Descriptor, CheckedAt: time.Now()}
	if err := m.catalog.SetTag(key.repo, key.tag, tag); err != nil {
		m.log.Warn("tag is known until a restart only", "repository", key.repo, "reference", key.tag, "error", err)
	}
	c := &check{tag: tag}
	if manifest.Outcome != Hit {
		c.fetched = manifest
	}
	return c
}

// forgetMissing drops a tag that the upstream says is gone, and remembers that for a while. An upstream that wants
// credentials for the repository has not said that.
func (m *Mirror) forgetMissing(up *upstream.Registry, key tagName, err error) error {
	if !errors.Is(err, upstream.ErrNotFound) {
		return err
	}
	m.missing.add(name{key.repo, oci.Reference{Tag: key.tag}, manifestKind}, up.Freshness().MissingFor)
	if errors.Is(err, upstream.ErrUnknownRepository) {
		return err
	}
	if deleteErr := m.catalog.DeleteTag(key.repo, key.tag); deleteErr != nil {
		return errors.Join(err, deleteErr)
	}
	return err
}
