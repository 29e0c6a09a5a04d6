package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/peer"
	"mirror/internal/upstream"
)

// Parts are the mechanisms that a Mirror decides over. It does not close them.
type Parts struct {
	Cache     *cache.Cache
	Catalog   *catalog.Catalog
	Upstreams *upstream.Set
	// Peers exchanges content with other nodes; nil without. ShareTags lets the owner of a tag check it for all of them.
	Peers     *peer.Exchange
	ShareTags bool
	// ID names this instance in Via headers, so that a request that comes back to it is noticed.
	ID string
}

// Mirror answers for all configured registries. All methods may be called from any goroutine.
type Mirror struct {
	cache     *cache.Cache
	catalog   *catalog.Catalog
	upstreams *upstream.Set
	id        string
	// registries holds the upstreams under their canonical names, which is how requests arrive here.
	registries map[string]*upstream.Registry
	// open: no registry is read with credentials, so all that is here is open to everybody.
	open bool

	checks   flights[tagName, *check]      // one check of a tag at a time
	fetches  flights[content, *Manifest]   // one fetch of a manifest by digest at a time
	confirms flights[content, int64]       // one question whether a repository holds a blob at a time
	lists    flights[listName, listAnswer] // one request for a list at a time
	ahead    chan struct{}                 // a place for each check that nobody waits for yet

	troubled     *memo[tagName, struct{}] // tags whose last check failed
	moving       *memo[tagName, struct{}] // tags whose new manifest is being fetched
	silent       *memo[string, struct{}]  // registries that did not answer in time
	refused      *memo[name, error]       // what upstream said is not there, or not for us
	refusedLists *memo[listName, error]

	peers     *peer.Exchange
	shareTags bool
	wholes    *memo[oci.Digest, struct{}] // blobs whose registry has no ranges
	fromPeers *memo[oci.Digest, struct{}] // blobs whose bytes come from peers
	wrong     *memo[oci.Digest, sums]     // blobs of which wrong bytes came from peers
	tellers   *memo[oci.Digest, string]   // who has told that a tag names the manifest, and so has it

	habits   habits
	prefetch *prefetcher

	managing sync.Mutex // one change by an operator at a time: each looks at everything before it acts

	log     *slog.Logger
	noStore throttle
	metrics *metrics
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // flights
}

// tagName, content and name are keys: what was asked for, within its repository. Whether as a manifest or as a blob is
// part of a name, because registries do not serve the one as the other.
type (
	tagName struct {
		repo oci.Repository
		tag  string
	}
	content struct {
		repo   oci.Repository
		digest oci.Digest
	}
	name struct {
		repo oci.Repository
		ref  oci.Reference
		kind kind
	}
)

// manifest returns the tag as a name of a manifest.
func (t tagName) manifest() name { return name{t.repo, oci.Reference{Tag: t.tag}, manifestKind} }

// New returns a mirror over parts.
func New(parts Parts, log *slog.Logger, reg prometheus.Registerer) *Mirror {
	m := &Mirror{
		cache: parts.Cache, catalog: parts.Catalog, upstreams: parts.Upstreams, id: parts.ID,
		peers: parts.Peers, shareTags: parts.ShareTags,
		wholes: newMemo[oci.Digest, struct{}](), fromPeers: newMemo[oci.Digest, struct{}](), wrong: newMemo[oci.Digest, sums](),
		tellers:    newMemo[oci.Digest, string](),
		registries: make(map[string]*upstream.Registry), open: true,
		ahead:    make(chan struct{}, aheadLimit),
		troubled: newMemo[tagName, struct{}](), moving: newMemo[tagName, struct{}](), silent: newMemo[string, struct{}](),
		refused: newMemo[name, error](), refusedLists: newMemo[listName, error](),
		log: log, noStore: throttle{every: time.Minute}, metrics: newMetrics(reg),
	}
	m.prefetch = newPrefetcher(m)
	for _, r := range parts.Upstreams.All() {
		m.registries[r.Name()] = r
		m.open = m.open && r.Anonymous()
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.running.Go(m.keepNames)
	return m
}

// Close ends what runs in the background and waits for it. No other method may be called any more.
func (m *Mirror) Close() {
	m.prefetch.close()
	m.cancel()
	m.running.Wait()
}

// ID names this instance in Via headers.
func (m *Mirror) ID() string { return m.id }

// Lookup returns the canonical name of a registry that a client named, by name or alias.
func (m *Mirror) Lookup(registry string) (string, bool) {
	return canonical(m.upstreams.Lookup(registry))
}

// LookupHost returns the registry that is served under a virtual host name.
func (m *Mirror) LookupHost(host string) (string, bool) { return canonical(m.upstreams.Host(host)) }

// Default returns the registry that answers requests that name none.
func (m *Mirror) Default() (string, bool) { return canonical(m.upstreams.Default()) }

func canonical(r *upstream.Registry, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	return r.Name(), true
}

// registry returns the upstream of a repository, if it is configured and may be asked for the repository.
func (m *Mirror) registry(repo oci.Repository) (*upstream.Registry, error) {
	r, ok := m.registries[repo.Registry]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoUpstream, repo.Registry)
	}
	if !r.Allows(repo.Name) {
		return nil, fmt.Errorf("upstream %s: %w: %s", repo.Registry, upstream.ErrNotAllowed, repo.Name)
	}
	return r, nil
}

// WithVia returns a context for requests that came through other proxies; via is the value of their Via header. What is
// asked upstream for them says so, by which a circle of mirrors is noticed.
func WithVia(ctx context.Context, via string) context.Context { return upstream.WithVia(ctx, via) }

// detached returns a context for work that outlives the request that started it. All that it keeps of the request is
// what that came through.
func (m *Mirror) detached(ctx context.Context) context.Context {
	return upstream.WithVia(m.ctx, upstream.ViaOf(ctx))
}
