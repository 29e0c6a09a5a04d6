package server

import (
	"maps"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Phases is how many connections are in each phase.
type Phases struct{ New, Idle, Kept, Busy int }

// PhasesOf counts the connections of a server.
func PhasesOf(s *Server) (n Phases) {
	for _, c := range connsOf(s) {
		switch c.phase.Load() {
		case phaseNew:
			n.New++
		case phaseIdle:
			n.Idle++
		case phaseKept:
			n.Kept++
		case phaseBusy:
			n.Busy++
		}
	}
	return n
}

func connsOf(s *Server) []*conn { return s.crowd.all() }

func (c *crowd) all() []*conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.conns))
}

// Pollers are those that wait for a server's connections.
type Pollers []*poller

// PollersOf finds the pollers that have connections now.
func PollersOf(s *Server) (all Pollers) {
	for _, c := range connsOf(s) {
		if p := c.poller.Load(); p != nil && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// Hold keeps the pollers from looking at what is ready until release is called.
func (all Pollers) Hold() (release func()) {
	for _, p := range all {
		p.mu.Lock()
	}
	return func() {
		for _, p := range all {
			p.mu.Unlock()
		}
	}
}

// Sweep has them sweep as they would when every connection had been quiet for so much longer.
func (all Pollers) Sweep(s *Server, longer time.Duration) {
	release := all.Hold()
	for _, c := range connsOf(s) {
		c.since = c.since.Add(-longer)
		c.active.Add(-int64(longer))
	}
	release()
	for _, p := range all {
		p.sweep()
	}
}

// Ended reports whether they wait for nobody any more and have let go of what they had.
func (all Pollers) Ended() bool {
	for _, p := range all {
		p.mu.Lock()
		ended := p.ended && len(p.conns) == 0
		p.mu.Unlock()
		if !ended || p.epoll.SetReadDeadline(time.Time{}) == nil {
			return false
		}
	}
	return true
}

// SetTimes sets how long a client may take for one slice of an answer, and how long a connection is kept. Nobody may be connected.
func SetTimes(s *Server, patience, kept time.Duration) {
	s.crowd.mu.Lock() // which those who come take, and those who leave
	defer s.crowd.mu.Unlock()
	s.crowd.patience, s.crowd.kept = patience, kept
}

// Conn is one connection, as the server sees it.
type Conn struct {
	Poller any
	// Active is when the last request on it was answered, in nanoseconds since 1970.
	Active int64
	// Unread is how many bytes have come that nobody has read.
	Unread int
	// Congestion is how it is sent to.
	Congestion string
	// Files says that something was sent from a file, not through memory.
	Files bool
}

// ConnOf finds the connection of a client.
func ConnOf(s *Server, client net.Addr) (c Conn) { return s.crowd.connOf(client) }

// ConnOfPeer finds the connection of a peer.
func ConnOfPeer(p *Peers, peer net.Addr) (c Conn) { return p.crowd.connOf(peer) }

func (c *crowd) connOf(client net.Addr) (found Conn) {
	for _, own := range c.all() {
		if own.RemoteAddr().String() == client.String() {
			found.Poller, found.Active, found.Files = own.poller.Load(), own.active.Load(), own.sending.Load() != nil
			found.Congestion, _ = congestionOf(own)
			_ = control(own, func(fd int) (err error) {
				found.Unread, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
				return err
			})
		}
	}
	return found
}
