package peer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// leaveWithin is how long a stop waits for the cluster to be told. Those that are not told notice by themselves.
	leaveWithin = 5 * time.Second
	// tellWithin is how long a change waits for the first members to be told. The others hear of it later.
	tellWithin = time.Second
	// refuseEvery and gossipEvery are the least times between two log lines of one kind: about refusals, which last until
	// somebody changes a file, and from memberlist.
	refuseEvery = 10 * time.Minute
	gossipEvery = 10 * time.Second
)

// Group is this node among its peers. Start and Close are called once each, in that order; every other method may be called
// from any goroutine and at any time.
type Group struct {
	cfg      Config
	settings Settings
	name     string
	seeds    []seed
	log      *slog.Logger
	metrics  *metrics
	refusals *limiter // lines about them
	lines    *limiter // lines of memberlist

	signer  *Signer
	keyring *memberlist.Keyring // nil when gossip is not encrypted

	self     metadata // but for refuses and room, which standing has
	standing *standing
	gossip   *gossip
	roster   *roster

	deadLock sync.Mutex // for writing dead
	dead     atomic.Pointer[obituaries]

	// What follows is set by Start.
	ctx     context.Context // ends what the node does among its peers
	cancel  context.CancelFunc
	loops   sync.WaitGroup
	list    *memberlist.Memberlist
	address netip.AddrPort // where this node is for the others
	grown   *time.Timer    // the end of being young
}

// New returns a node that is alone. It reads the secret file; the network is left alone until Start.
func New(cfg Config, settings Settings, log *slog.Logger, reg prometheus.Registerer) (*Group, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	name, err := cfg.nodeName()
	if err != nil || !isName(name) {
		return nil, fmt.Errorf("the name of this host, %q, cannot be that of a member: set peers.name", name)
	}
	g := &Group{
		cfg: cfg, settings: settings, name: name, log: log.With("component", "peer"), standing: newStanding(),
		refusals: newLimiter(refuseEvery), lines: newLimiter(gossipEvery),
	}
	secret, err := g.readSecret()
	if err != nil {
		return nil, err
	}
	if g.keyring, err = newKeyring(secret); err != nil {
		return nil, fmt.Errorf("install keys: %w", err)
	}
	g.signer = NewSigner(name, secret)
	g.dead.Store(&obituaries{})
	g.introduce()
	if g.metrics, err = newMetrics(reg, g.View); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return g, nil
}

// introduce prepares what this node tells about itself. What others have to reach is known when it starts.
func (g *Group) introduce() {
	var start [8]byte
	rand.Read(start[:])
	g.self = metadata{
		versions: spoken, start: binary.BigEndian.Uint64(start[:]), chunkSize: uint64(g.cfg.ChunkSize), zone: g.cfg.Zone,
	}
	if g.cfg.Upload > 0 && g.cfg.Upload < slowUpload {
		g.standing.refuse(Slow, true)
		g.standing.settle(0)
	}
	if g.settings.OwnAfter > 0 {
		g.standing.refuse(Young, true)
		g.standing.settle(0)
	}
	g.gossip = &gossip{group: g}
	g.roster = newRoster(g.selfAt(netip.AddrPort{}))
}

// readSecret reads the secret file, if there is one.
func (g *Group) readSecret() (Secret, error) {
	if g.cfg.SecretFile == "" {
		return noSecret(g.cfg.Cluster)
	}
	if isReadableByAll(g.cfg.SecretFile) {
		g.log.Warn(fmt.Sprintf("every user of this machine can read the secret of the cluster: chmod o-r %s", g.cfg.SecretFile))
	}
	return LoadSecret(g.cfg.SecretFile, g.cfg.Cluster)
}

// Start opens the gossip port and looks for the other members in the background: that there are none yet is no error.
// An address to advertise that is a name is looked up, within ctx.
func (g *Group) Start(ctx context.Context) error {
	if g.list != nil {
		return ErrJoined
	}
	advertise, err := g.advertised(ctx)
	if err != nil {
		return err
	}
	if err := g.findOut(); err != nil {
		return err
	}
	transport, err := g.openGossip()
	if err != nil {
		return err
	}
	g.ctx, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := g.gather(transport, advertise); err != nil {
		g.cancel()
		return err
	}
	g.grown = time.AfterFunc(g.settings.OwnAfter, func() { g.standing.refuse(Young, false) })
	g.loops.Go(func() { g.roster.keep(g.ctx, g.name) })
	g.loops.Go(func() { g.herald(g.ctx) })
	if len(g.seeds) > 0 {
		g.loops.Go(func() { (&joiner{group: g}).run(g.ctx) })
	}
	g.log.Info(fmt.Sprintf("member %s gossips on %s", g.name, g.address))
	return nil
}

// advertised returns the configured address at which the others reach this node, the zero address when there is none.
func (g *Group) advertised(ctx context.Context) (netip.Addr, error) {
	if g.cfg.Advertise == "" {
		return netip.Addr{}, nil
	}
	found, err := seed{host: g.cfg.Advertise}.addresses(ctx, g.settings.Resolver)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find peers.advertise: %w: write the address itself", err)
	}
	return found[0].Addr(), nil
}

// gather makes this node a cluster of one. It takes the transport over: after an error it is closed.
func (g *Group) gather(transport *memberlist.NetTransport, advertise netip.Addr) error {
	port := uint16(transport.GetAutoBindPort())
	if err := g.parseSeeds(port); err != nil {
		return errors.Join(err, transport.Shutdown())
	}
	g.standing.settle(0)
	g.compose()
	list, err := memberlist.Create(g.gossipConfig(transport, advertise))
	if err != nil {
		err = fmt.Errorf("start gossip: %w: set peers.advertise to the address that peers reach this node at", err)
		return errors.Join(err, transport.Shutdown())
	}
	g.list = list
	self := list.LocalNode()
	addr, _ := netip.AddrFromSlice(self.Addr)
	g.address = netip.AddrPortFrom(addr.Unmap(), self.Port)
	return nil
}

// parseSeeds reads the seeds, of which those without a port have that of the gossip.
func (g *Group) parseSeeds(port uint16) error {
	for i, text := range g.cfg.Join {
		s, err := parseSeed(text, port)
		if err != nil {
			return fmt.Errorf("join[%d]: %w", i, err)
		}
		g.seeds = append(g.seeds, s)
	}
	return nil
}

// findOut learns where the transfer listener is. Its host is told to the others only where it differs from that of the
// gossip.
func (g *Group) findOut() error {
	host, port, err := splitAddress(g.cfg.TransferAddress())
	if err != nil {
		return fmt.Errorf("parse peers.transfer: %w", err)
	}
	gossipHost, _, _ := splitAddress(g.cfg.Listen)
	g.self.port = port
	if addr, ok := bindAddress(host); ok && host != gossipHost && g.cfg.Advertise == "" && !addr.IsUnspecified() {
		g.self.host = addr
	}
	return nil
}

// compose packs what this node tells about itself.
func (g *Group) compose() {
	m := g.self
	m.refuses, m.room = g.standing.told()
	packed := m.append(nil)
	g.gossip.meta.Store(&packed)
}

// selfAt returns this node as a member at an address.
func (g *Group) selfAt(address netip.AddrPort) Member {
	refuses, room := g.standing.told()
	return Member{
		Name: g.name, Zone: g.self.zone, Gossip: address, Refuses: refuses, Room: room,
		Start: g.self.start, Versions: g.self.versions, ChunkSize: g.self.chunkSize,
	}
}

// herald tells the cluster when this node's standing has changed.
func (g *Group) herald(ctx context.Context) {
	for {
		changed, wait := g.standing.settle(g.settings.Settle)
		if changed {
			g.compose()
			if err := g.list.UpdateNode(tellWithin); err != nil {
				g.log.Debug("the cluster hears of a change later", "error", err)
			}
		}
		var later <-chan time.Time
		if wait > 0 {
			later = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-g.standing.wake:
		case <-later:
		}
	}
}

// Close leaves the cluster and stops. It takes at most five seconds, less when ctx ends before; then the others have to
// find out by themselves.
func (g *Group) Close(ctx context.Context) error {
	if g.list == nil {
		return nil
	}
	g.grown.Stop()
	g.cancel()
	g.loops.Wait()
	within := leaveWithin
	if deadline, ok := ctx.Deadline(); ok {
		within = max(time.Millisecond, min(within, time.Until(deadline)))
	}
	if err := g.list.Leave(within); err != nil {
		g.log.Info("the cluster was not told that this node stops, and will notice", "error", err)
	}
	return g.list.Shutdown()
}
