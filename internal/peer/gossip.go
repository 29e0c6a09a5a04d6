package peer

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossip is what memberlist asks and tells. It calls from its own loops, with its lock held: nothing here waits, and what
// is kept is a copy.
type gossip struct {
	group     *Group
	meta      atomic.Pointer[[]byte] // what this node tells about itself
	contested atomic.Int64           // when another node used our name last, in unix nanoseconds
}

var (
	_ memberlist.Delegate         = (*gossip)(nil)
	_ memberlist.EventDelegate    = (*gossip)(nil)
	_ memberlist.AliveDelegate    = (*gossip)(nil)
	_ memberlist.ConflictDelegate = (*gossip)(nil)
)

// NodeMeta returns what this node tells about itself, always far below limit.
func (g *gossip) NodeMeta(int) []byte { return *g.meta.Load() }

// NotifyMsg drops messages: nothing but membership travels by gossip.
func (g *gossip) NotifyMsg([]byte) {}

// GetBroadcasts has none.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has none.
func (g *gossip) LocalState(bool) []byte { return nil }

// MergeRemoteState takes none.
func (g *gossip) MergeRemoteState([]byte, bool) {}

// NotifyJoin adds a member.
func (g *gossip) NotifyJoin(node *memberlist.Node) { g.take(node) }

// NotifyUpdate takes over what a member tells about itself now.
func (g *gossip) NotifyUpdate(node *memberlist.Node) { g.take(node) }

// NotifyLeave removes a member.
func (g *gossip) NotifyLeave(node *memberlist.Node) { g.group.roster.note(node.Name, nil) }

func (g *gossip) take(node *memberlist.Node) {
	// NotifyAlive has let it pass, so it can be understood.
	if m, err := memberOf(node); err == nil {
		g.group.roster.note(node.Name, &m)
	}
}

// NotifyAlive decides who may be a member.
func (g *gossip) NotifyAlive(node *memberlist.Node) error {
	why, err := g.objection(node)
	if err != nil {
		g.group.refuse(why, err.Error(), node.Name)
	}
	return err
}

// objection tells why a node must not be a member. Each of two nodes that do not fit finds the same about the other.
func (g *gossip) objection(node *memberlist.Node) (reason, error) {
	if !isName(node.Name) {
		return reasonName, fmt.Errorf("the name %.200q is not made of letters, digits, dots, dashes and underscores: set that member's peers.name", node.Name)
	}
	m, err := memberOf(node)
	if err != nil {
		return reasonVersion, fmt.Errorf("%w: update the older one of the two nodes", err)
	}
	if _, ok := m.Versions.Common(spoken); !ok {
		return reasonVersion, fmt.Errorf("a member speaks versions %d to %d of the transfer protocol, this node %d to %d: update the older one of the two",
			m.Versions.Min, m.Versions.Max, spoken.Min, spoken.Max)
	}
	if own := uint64(g.group.cfg.ChunkSize); m.ChunkSize != own {
		return reasonChunkSize, fmt.Errorf("a member has a peers.chunk_size of %d bytes, this node of %d: give all members the same", m.ChunkSize, own)
	}
	return "", nil
}

// NotifyConflict hears of two nodes with one name. memberlist keeps to the one it knows until that is dead or has left. It
// is a mistake when both stay; after a crash and a restart on another address it is over as soon as the cluster has noticed
// the crash, some seconds later, and what is needed then is to be heard again.
func (g *gossip) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name == g.group.name {
		g.contested.Store(time.Now().UnixNano())
	}
	message := fmt.Sprintf("two nodes have this name, at %s and %s: give each its own peers.name, unless one of them has just "+
		"crashed and come back elsewhere", existing.Address(), other.Address())
	g.group.refuse(reasonName, message, existing.Name)
}

// isContested tells whether another node has used our name within the last span.
func (g *gossip) isContested(span time.Duration) bool {
	return time.Since(time.Unix(0, g.contested.Load())) < span
}

// memberOf copies what memberlist knows of a node.
func memberOf(node *memberlist.Node) (Member, error) {
	meta, err := parseMetadata(node.Meta)
	if err != nil {
		return Member{}, err
	}
	addr, _ := netip.AddrFromSlice(slices.Clone(node.Addr))
	addr = addr.Unmap()
	host := meta.host
	if !host.IsValid() {
		host = addr
	}
	return Member{
		Name: node.Name, Zone: meta.zone, Gossip: netip.AddrPortFrom(addr, node.Port), Transfer: netip.AddrPortFrom(host, meta.port),
		Refuses: meta.refuses, Room: meta.room, Start: meta.start, Versions: meta.versions, ChunkSize: meta.chunkSize,
	}, nil
}

// gossipConfig returns memberlist's settings: those for a local network, but for what follows.
func (g *Group) gossipConfig(transport *memberlist.NetTransport, advertise netip.Addr) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Keyring = g.name, g.cfg.Cluster, g.keyring
	c.BindPort = transport.GetAutoBindPort()
	c.AdvertisePort = c.BindPort
	if advertise.IsValid() {
		c.AdvertiseAddr = advertise.String()
	}
	c.Transport = &gossipTransport{NetTransport: transport, ctx: g.ctx}
	c.Logger = slog.NewLogLogger(g.bridge(), slog.LevelInfo)
	c.Delegate, c.Events, c.Alive, c.Conflict = g.gossip, g.gossip, g.gossip, g.gossip
	// What travels is small and mostly random numbers.
	c.EnableCompression = false
	// A full exchange is what costs most in a large cluster; it only mends what gossip has missed.
	c.PushPullInterval = 60 * time.Second
	// When a rollout restarts a whole fleet, more messages arrive than one node handles at a time.
	c.HandoffQueueDepth = 4096
	// A node that comes back on another address gets its name back, but not while its death may be a mistake.
	c.DeadNodeReclaimTime = 20 * time.Second
	// A message for a member whose address somebody else has now must not be taken for its own.
	c.RequireNodeNames = true
	if g.settings.tune != nil {
		g.settings.tune(c)
	}
	return c
}

// openGossip opens the port for TCP and UDP. With port 0 the kernel chooses one, and may choose one that is free for TCP
// alone; hence a few attempts.
func (g *Group) openGossip() (transport *memberlist.NetTransport, err error) {
	host, port, err := splitAddress(g.cfg.Listen)
	if err != nil {
		return nil, err
	}
	bind, _ := bindAddress(host)
	for range 10 {
		transport, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{bind.String()}, BindPort: int(port), Logger: slog.NewLogLogger(g.bridge(), slog.LevelInfo),
		})
		if err == nil || port != 0 {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s for gossip: %w: free the port, or change peers.listen", net.JoinHostPort(host, fmt.Sprint(port)), err)
	}
	return transport, nil
}
