package mirror

import (
	"context"
	"slices"

	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// smallAhead is up to which length in bytes content is fetched before what is longer: it costs next to nothing, and some
// clients wait for it before they ask for the rest.
const smallAhead = 1 << 20

// longestAhead is up to which length in bytes content is fetched ahead. No layer is so long, but a manifest may say anything,
// and sums of it must not overflow.
const longestAhead = 1 << 40

// Pulled notes that a client is about to get the body of a manifest, which says what it may ask for next. What only tells
// whether there is something new, a HEAD or a 304, is no reason to call it.
func (m *Mirror) Pulled(ctx context.Context, repo oci.Repository, manifest *Manifest) {
	up, ok := m.registries[repo.Registry]
	if !ok || !up.Prefetch() {
		return
	}
	d := &manifest.Descriptor
	if !oci.IsIndexType(d.MediaType) {
		m.habits.gotManifest(repo, d.Digest)
		return
	}
	if m.habits.gotIndex(repo, d.Digest) {
		m.pulledIndex(ctx, up, repo, manifest)
	}
}

// pulledIndex fetches those manifests of an index ahead that clients of the repository will ask for.
func (m *Mirror) pulledIndex(ctx context.Context, up *upstream.Registry, repo oci.Repository, manifest *Manifest) {
	parsed, err := oci.ParseManifest(manifest.Descriptor.MediaType, manifest.Body)
	if err != nil {
		return // it was good enough to be stored once, and the client will tell
	}
	for _, child := range m.habits.learn(repo, parsed.Platforms) {
		m.manifestAhead(ctx, up, repo, child)
	}
}

// manifestAhead fetches a manifest that a client will probably ask for.
func (m *Mirror) manifestAhead(ctx context.Context, up *upstream.Registry, repo oci.Repository, d oci.Digest) {
	if m.isHere(d) || up.Spare() == 0 {
		return
	}
	select {
	case m.ahead <- struct{}{}:
	default:
		return
	}
	detached := m.detached(ctx)
	m.running.Go(func() {
		defer func() { <-m.ahead }()
		if _, err := m.byDigest(detached, up, repo, d); err != nil {
			m.log.Debug("manifest could not be fetched ahead; whoever asks for it will be told", "repository", repo, "digest", d, "error", err)
		}
	})
}

// lookAhead begins with what a client will ask for next that has asked for a layer which was not here. That is when it is
// certain that an image is being pulled: many programs read manifests, and some configurations, and want nothing else.
func (m *Mirror) lookAhead(ctx context.Context, up *upstream.Registry, repo oci.Repository, asked oci.Digest) {
	if !up.Thrives() {
		return
	}
	for _, d := range m.habits.announced(repo) {
		body, err := m.cache.Peek(d, manifestLimit)
		if err != nil {
			continue // it could not be stored, or is gone
		}
		parsed, err := oci.ParseManifest("", body)
		if err != nil {
			continue
		}
		wanted, named := next(parsed, asked, m.isHere)
		if !named {
			continue
		}
		if m.habits.use(repo, d) {
			m.prefetch.add(ctx, up, repo, wanted)
		}
		return
	}
}

// next returns what a client will ask for that has got a manifest and now asks for one of its layers: the configuration and
// the layers after that one, as far as they are not here. Clients ask for layers in their order and leave out what they
// have, so the layers before it are theirs already, and when most of an image is here, it is likely that they have most of
// it too. What is small comes first. named tells whether the manifest names the layer at all.
func next(m oci.Manifest, asked oci.Digest, here func(oci.Digest) bool) (wanted []oci.Descriptor, named bool) {
	layers := slices.DeleteFunc(slices.Clone(m.Children), func(d oci.Descriptor) bool { return d.Digest == m.Config.Digest })
	at := slices.IndexFunc(layers, func(d oci.Descriptor) bool { return d.Digest == asked })
	if at < 0 || oci.IsIndexType(m.MediaType) {
		return nil, false
	}
	held := 0
	for _, layer := range layers {
		if here(layer.Digest) {
			held++
		}
	}
	if 2*held > len(layers) {
		return nil, true
	}
	known := map[oci.Digest]bool{asked: true, {}: true}
	for _, d := range append([]oci.Descriptor{m.Config}, layers[at+1:]...) {
		if !known[d.Digest] && d.Size <= longestAhead && !here(d.Digest) {
			wanted = append(wanted, d)
		}
		known[d.Digest] = true
	}
	slices.SortStableFunc(wanted, func(a, b oci.Descriptor) int { return sizeClass(a) - sizeClass(b) })
	return wanted, true
}

func sizeClass(d oci.Descriptor) int {
	if d.Size <= smallAhead {
		return 0
	}
	return 1
}
