package mirror

import (
	"context"
	"errors"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/peer"
	"mirror/internal/upstream"
)

const (
	// checkPatience is how long a client waits for the check of a tag that is here already: stale content now beats fresh
	// content later. The check goes on.
	checkPatience = time.Second
	// movePatience is how long a client waits in addition once the upstream has said that the tag has moved, and the new
	// manifest is on its way.
	movePatience = 1500 * time.Millisecond
	// checkTimeout bounds the check itself. Some registries take seconds to look up what they mirror themselves.
	checkTimeout = 5 * time.Second
	// troubleFor is how long a tag whose check failed is served stale without another check.
	troubleFor = 5 * time.Second
	// troubleLimit cuts what an upstream may ask for with Retry-After.
	troubleLimit = time.Hour
	// silentFor is how long nobody waits for a registry that did not answer in time. Its tags are checked all the same, and
	// the first answer ends it.
	silentFor = 30 * time.Second
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
	if known && up.Offline() {
		return m.stale(ctx, up, key, tag, unasked(up))
	}
	believed := m.trusted(up, key, tag, known)
	switch believed {
	case ending:
		m.checkAhead(ctx, up, key, tag)
		return m.named(ctx, up, key, tag)
	case fresh:
		return m.named(ctx, up, key, tag)
	}
	if err := m.refusal(key.manifest()); err != nil {
		return nil, err
	}
	switch believed {
	case limited:
		return m.stale(ctx, up, key, tag, unasked(up))
	case spared:
		return m.stale(ctx, up, key, tag, "has nearly used up its rate limit")
	case due:
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
		return m.stale(ctx, up, key, tag, unasked(up))
	}
	f, joined := m.startCheck(ctx, up, key, tag)
	if troubled || m.silent.has(key.repo.Registry) || !up.Available() {
		return m.stale(ctx, up, key, tag, unasked(up))
	}
	found, err := f.waitFor(ctx, checkPatience)
	if err != nil && ctx.Err() == nil && m.moving.has(key) {
		found, err = f.waitFor(ctx, movePatience)
	}
	if err != nil && calm(err) {
		if ctx.Err() == nil { // else it was the client who had no time
			m.trouble(key, err) // the check may still run: it may be the new manifest that does not come
		}
		return m.stale(ctx, up, key, tag, unasked(up))
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
		return found.fetched.as(Join, found.fetched.Source), nil
	}
	return found.fetched, nil
}

// named serves the manifest that a tag is known to name.
func (m *Mirror) named(ctx context.Context, up *upstream.Registry, key tagName, tag catalog.Tag) (*Manifest, error) {
	return m.byDigest(ctx, up, key.repo, tag.Descriptor.Digest)
}

// unasked says of a registry why it was not asked, or is not waited for.
func unasked(up *upstream.Registry) string {
	switch {
	case up.Offline():
		return "is offline by configuration"
	case up.Budget().Exhausted():
		return "has used up its rate limit"
	}
	return "cannot be asked now"
}

// stale serves a tag that could not be checked, and says so. why says something about its registry.
func (m *Mirror) stale(ctx context.Context, up *upstream.Registry, key tagName, tag catalog.Tag, why string) (*Manifest, error) {
	manifest, err := m.named(ctx, up, key, tag)
	if err != nil {
		return nil, err
	}
	s := manifest.as(Stale, manifest.Source)
	s.Warning = "tag " + key.tag + " was last checked " + time.Since(tag.CheckedAt).Round(time.Second).String() +
		" ago; " + key.repo.Registry + " " + why
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
			m.silent.forget(key.repo.Registry)
		case calm(err) && !known.Descriptor.Digest.IsZero():
			m.trouble(key, err)
		}
		return found, err
	})
}

// trouble notes that a known tag could not be checked. When there was no answer at all, nobody waits for the registry's
// other tags either; that a new manifest is slow to come is no silence.
func (m *Mirror) trouble(key tagName, err error) {
	m.troubled.add(key, struct{}{}, min(max(troubleFor, upstream.RetryAfter(err)), troubleLimit))
	if silence(err) && !m.moving.has(key) {
		m.silent.add(key.repo.Registry, struct{}{}, silentFor)
	}
}

// check asks the upstream what a tag names now. Only a digest that is not here is fetched.
func (m *Mirror) check(ctx context.Context, up *upstream.Registry, key tagName, known catalog.Tag) (*check, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	told, err := m.askOwner(ctx, up, key)
	switch {
	case err == nil:
		return m.move(ctx, up, key, known, told.Descriptor.Digest, told.Age)
	case errors.Is(err, peer.ErrOwn):
		return m.checkUpstream(ctx, up, key, known)
	case errors.Is(err, errStaleOwner) && known.Descriptor.Digest.IsZero():
		return m.move(ctx, up, key, known, told.Descriptor.Digest, told.Age)
	}
	return nil, m.forgetMissing(up, key, err)
}

// checkUpstream is check for a node that has to ask the registry itself.
func (m *Mirror) checkUpstream(ctx context.Context, up *upstream.Registry, key tagName, known catalog.Tag) (*check, error) {
	if known.Descriptor.Digest.IsZero() {
		return m.fetchTag(ctx, up, key)
	}
	patience := fetchTimeout // nothing but the answer will do
	if time.Since(known.CheckedAt) < up.TagFreshness(key.repo.Name, key.tag).StaleFor {
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
	return m.move(ctx, up, key, known, d.Digest, 0)
}

// move lets a tag name the digest that the upstream told so long ago. The bytes are here before the tag names them.
func (m *Mirror) move(ctx context.Context, up *upstream.Registry, key tagName, known catalog.Tag, d oci.Digest, age time.Duration) (*check, error) {
	at := time.Now().Add(-age)
	if _, here := m.cache.Stat(d); here && d == known.Descriptor.Digest {
		return m.unmoved(key, known, at), nil
	}
	m.moving.add(key, struct{}{}, fetchTimeout)
	defer m.moving.forget(key)
	manifest, err := m.byDigest(ctx, up, key.repo, d)
	if errors.Is(err, upstream.ErrNotFound) {
		return m.fetchTag(ctx, up, key) // it has moved on since the HEAD
	}
	if err != nil {
		return nil, err
	}
	return m.setTag(key, manifest, at), nil
}

// unmoved notes that a tag names what it named before. A touch does not replace a time that is still to come, which a
// clock that was ahead has left.
func (m *Mirror) unmoved(key tagName, known catalog.Tag, at time.Time) *check {
	if known.CheckedAt.After(time.Now()) {
		return m.setTag(key, &Manifest{Descriptor: known.Descriptor, Outcome: Hit}, at)
	}
	m.catalog.Touch(key.repo, key.tag, known.Descriptor.Digest, at)
	known.CheckedAt = at
	return &check{tag: known}
}

// fetchTag gets a manifest by tag.
func (m *Mirror) fetchTag(ctx context.Context, up *upstream.Registry, key tagName) (*check, error) {
	manifest, err := m.fetch(ctx, up, key.repo, oci.Reference{Tag: key.tag})
	if err == nil {
		return m.setTag(key, manifest, time.Now()), nil
	}
	if refusalIn(err) == nil {
		if told, ok := m.askEverybody(ctx, key); ok {
			return m.move(ctx, up, key, catalog.Tag{}, told.Descriptor.Digest, told.Age)
		}
	}
	return nil, m.forgetMissing(up, key, err)
}

// setTag makes a tag name a manifest whose bytes are stored and linked.
func (m *Mirror) setTag(key tagName, manifest *Manifest, at time.Time) *check {
	tag := catalog.Tag{Descriptor: manifest.Descriptor, CheckedAt: at}
	if err := m.catalog.SetTag(key.repo, key.tag, tag); err != nil {
		m.log.Warn("tag is known until a restart only", "repository", key.repo, "reference", key.tag, "error", err)
	}
	c := &check{tag: tag}
	if manifest.Outcome != Hit {
		c.fetched = manifest
	}
	return c
}

// forgetMissing remembers a refusal for a while, and drops a tag that the upstream says is gone. An upstream that wants
// credentials for the repository has not said that.
func (m *Mirror) forgetMissing(up *upstream.Registry, key tagName, err error) error {
	m.noteRefusal(up, key.manifest(), err)
	if !errors.Is(err, upstream.ErrNotFound) || errors.Is(err, upstream.ErrUnknownRepository) {
		return err
	}
	if deleteErr := m.catalog.DeleteTag(key.repo, key.tag); deleteErr != nil {
		return errors.Join(err, deleteErr)
	}
	return err
}
