package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/admin"
	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/config"
	"mirror/internal/mirror"
	"mirror/internal/peer"
	"mirror/internal/server"
	"mirror/internal/upstream"
)

// adminGrace is how long answers to operators may take after everything else has stopped.
const adminGrace = 2 * time.Second

// Node is one running mirror. Start and Close are called once each, in that order and by one goroutine; every other
// method may be called from anywhere in between.
type Node struct {
	cfg      config.Config
	version  string
	id       string
	base     *slog.Logger // for the parts, which name themselves
	log      *slog.Logger
	registry *prometheus.Registry
	state    atomic.Pointer[string] // why pulls are not served; nil while they are
	started  int                    // phases that have begun and not been undone
	failed   chan error             // a listener that stopped by itself; room for all
	// managed is the mirror that operators may ask and change: none before the end of the start and after the begin of the
	// stop, although the admin listener answers then.
	managed atomic.Pointer[mirror.Mirror]

	admin     *admin.Admin
	catalog   *catalog.Catalog
	cache     *cache.Cache
	upstreams *upstream.Set
	mirror    *mirror.Mirror
	server    *server.Server
	group     *peer.Group    // nil without peers
	exchange  *peer.Exchange // nil without peers
	peers     *server.Peers  // nil without peers

	adminListener    net.Listener
	registryListener net.Listener
	transferListener net.Listener // nil without peers
}

// The reasons that a node itself gives for not being ready.
const (
	starting = "starting"
	draining = "draining: the process is about to stop"
)

// New returns a node that has not started. version is what the upstreams and /metrics are told.
func New(cfg config.Config, version string, log *slog.Logger) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, version: version, id: newID(), base: log, log: log.With("component", "node"),
		registry: newRegistry(version), failed: make(chan error, 3),
	}
	n.setState(starting)
	return n, nil
}

// newID returns a name for this run of the node. It travels in Via headers, by which a request that comes back to its
// sender is known.
func newID() string {
	id := make([]byte, 8)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// phase is one part of a start, with what undoes it.
type phase struct {
	name  string
	start func() error
	stop  func(context.Context) error // nil when there is nothing to undo
}

// phases is the order of starting. Stopping runs from the last one back to the first.
func (n *Node) phases() []phase {
	return []phase{
		{"file limit", n.raiseFileLimit, nil},
		// Operators are answered from the first moment to the last: /readyz tells starting and draining.
		{"admin listener", n.startAdmin, n.stopAdmin},
		// Both databases are on their way from the disk while the first is read.
		{"read ahead", n.readAhead, nil},
		// The catalog is opened before the cache, because it refuses a directory that another process works in before
		// anything in it was touched.
		{"catalog", n.openCatalog, func(context.Context) error { return n.catalog.Close() }},
		{"cache", n.openCache, func(context.Context) error { return n.cache.Close() }},
		{"upstreams", n.openUpstreams, func(context.Context) error { n.upstreams.Close(); return nil }},
		{"peers", n.joinPeers, n.leavePeers},
		{"mirror", n.startMirror, func(context.Context) error { n.mirror.Close(); return nil }},
		{"server", n.buildServer, n.drain},
		{"transfer listener", n.startTransfers, n.drainTransfers},
		// The registry port is opened last: a client that finds it closed goes to its next endpoint at once, one that is
		// accepted and not answered waits. Draining closes it.
		{"registry listener", n.startServer, nil},
	}
}

// Start runs every phase. When one fails, those before it are undone and the error says which it was.
func (n *Node) Start(ctx context.Context) error {
	for _, p := range n.phases() {
		err := ctx.Err()
		if err == nil {
			err = n.timed("start "+p.name, p.start)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", p.name, err), n.Close(ctx))
		}
		n.started++
	}
	n.managed.Store(n.mirror)
	n.state.Store(nil)
	n.log.Info(fmt.Sprintf("serving clients on %s, operators on %s", n.Addr(), n.AdminAddr()))
	return nil
}

// Close drains and stops. Readiness goes false first; transfers in flight get the configured drain timeout, or less
// when ctx ends before; then content and names are written out.
func (n *Node) Close(ctx context.Context) error {
	n.setState(draining)
	n.managed.Store(nil)
	var errs []error
	for ; n.started > 0; n.started-- {
		p := n.phases()[n.started-1]
		if p.stop == nil {
			continue
		}
		if err := n.timed("stop "+p.name, func() error { return p.stop(ctx) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// timed runs a step and logs how long it took. A failure is the caller's to report.
func (n *Node) timed(name string, step func() error) error {
	begin := time.Now()
	err := step()
	if err == nil {
		n.log.Debug(name, "duration", time.Since(begin))
	}
	return err
}

// Failed receives an error when a listener stops although nobody asked for it.
func (n *Node) Failed() <-chan error { return n.failed }

// Addr is where the registry API listens, once Start has returned.
func (n *Node) Addr() net.Addr { return n.registryListener.Addr() }

// AdminAddr is where the admin listener listens, once Start has returned.
func (n *Node) AdminAddr() net.Addr { return n.adminListener.Addr() }

// Reload reads credentials and certificates from their files again, and takes over the limits of cfg. What cannot be read
// stays as it was; what else has changed in cfg needs a restart, and a warning says so.
func (n *Node) Reload(cfg config.Config) error {
	err := n.upstreams.Reload(cfg.Upstreams)
	if !reflect.DeepEqual(lasting(cfg), lasting(n.cfg)) {
		n.log.Warn("the configuration changed in more than limits and log level: restart to apply the rest")
	}
	if n.group != nil {
		err = errors.Join(err, n.group.Reload())
	}
	return errors.Join(err, n.server.Reload())
}

// lasting returns what of a configuration cannot change while a node runs.
func lasting(cfg config.Config) config.Config {
	cfg.Log.Level = ""
	cfg.Upstreams = slices.Clone(cfg.Upstreams)
	for i := range cfg.Upstreams {
		cfg.Upstreams[i].Limits = upstream.Limits{}
	}
	return cfg
}

func (n *Node) setState(reason string) { n.state.Store(&reason) }

// notReady returns why pulls cannot be served.
func (n *Node) notReady() []string {
	if reason := n.state.Load(); reason != nil {
		return []string{*reason}
	}
	return nil
}
