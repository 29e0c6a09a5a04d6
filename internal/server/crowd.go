package server

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxConnections bounds the connections of all clients. One costs, while it is busy, a goroutine and two buffers.
	maxConnections = 16 << 10
	// maxFromAddress bounds the connections of one client address; a NAT gateway or a proxy is one address.
	maxFromAddress = 4 << 10
	// addressBits6 is the part of an IPv6 address that stands for one client: a provider gives each at least this.
	addressBits6 = 64
	// disperseEvery is how often a stop looks for connections that have nothing to do.
	disperseEvery = 20 * time.Millisecond
	// newcomerWaits is how long a stop waits for the first request of a connection, which may be on its way. net/http does the same.
	newcomerWaits = 5 * time.Second
)

// crowd is all connections of a server. It bounds them and can close them.
type crowd struct {
	metrics *metrics
	// total and perAddress bound how many there are.
	total, perAddress int
	// patience is how long a client may take for one slice of a body, and kept how long a connection stays with the goroutine that it
	// has got once it has been quiet.
	patience, kept time.Duration

	mu       sync.Mutex // guards what follows
	conns    map[*conn]struct{}
	fromHost map[netip.Prefix]int
}

func newCrowd(m *metrics, total, perAddress int) *crowd {
	return &crowd{metrics: m, total: total, perAddress: perAddress, patience: writeWithin, kept: keptFor,
		conns: make(map[*conn]struct{}), fromHost: make(map[netip.Prefix]int)}
}

// admit takes a connection in, unless a bound is reached. The caller closes what is not admitted.
func (c *crowd) admit(tcp *net.TCPConn) (*conn, bool) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, false
	}
	own := &conn{TCPConn: tcp, raw: raw, crowd: c, from: addressRange(tcp.RemoteAddr()), since: time.Now()}
	own.phase.Store(phaseBusy) // until somebody waits for its first request
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.conns) >= c.total {
		c.metrics.refusedTotal.Inc()
		return nil, false
	}
	if c.fromHost[own.from] >= c.perAddress {
		c.metrics.refusedHost.Inc()
		return nil, false
	}
	c.conns[own] = struct{}{}
	c.fromHost[own.from]++
	c.metrics.connections.Inc()
	return own, true
}

// leave forgets a connection that was admitted. It must be called once for each.
func (c *crowd) leave(own *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, own)
	if c.fromHost[own.from]--; c.fromHost[own.from] == 0 {
		delete(c.fromHost, own.from)
	}
	c.metrics.connections.Dec()
}

// disperse closes connections when they have nothing to do until none is left. It fails with what ends ctx before.
func (c *crowd) disperse(ctx context.Context) error {
	look := time.NewTicker(disperseEvery)
	defer look.Stop()
	for c.dismiss(newcomerWaits) > 0 {
		select {
		case <-ctx.Done():
			c.dismiss(0)
			return ctx.Err()
		case <-look.C:
		}
	}
	return nil
}

// dismiss closes the connections that are between two requests, and those that have come so long ago and asked for nothing. It
// returns how many there are, those included.
func (c *crowd) dismiss(patience time.Duration) int {
	var idle []*conn
	c.mu.Lock()
	for own := range c.conns {
		if own.phase.CompareAndSwap(phaseIdle, phaseGone) || own.phase.CompareAndSwap(phaseKept, phaseGone) ||
			time.Since(own.since) >= patience && own.phase.CompareAndSwap(phaseNew, phaseGone) {
			idle = append(idle, own)
		}
	}
	n := len(c.conns)
	c.mu.Unlock()
	for _, own := range idle {
		_ = own.Close()
	}
	return n
}

// cut closes every connection at once and returns how many had something to do. What is being done for those ends when it notices.
func (c *crowd) cut() (busy int) {
	c.dismiss(0)
	c.mu.Lock()
	left := slices.Collect(maps.Keys(c.conns))
	c.mu.Unlock()
	for _, own := range left {
		if own.phase.Load() == phaseBusy {
			busy++
		}
		_ = own.TCPConn.Close() // which ends a closing that lingers
		_ = own.Close()
	}
	return busy
}

// size is how many connections there are.
func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

// addressRange is what stands for one client: an IPv4 address, or the network part of an IPv6 address.
func addressRange(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = addressBits6
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
