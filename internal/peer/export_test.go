package peer

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// Hasty returns settings in which everything that a node waits for takes a fraction of a second, and it owns at once.
func Hasty() Settings {
	s := DefaultSettings()
	s.OwnAfter, s.Settle, s.Rejoin = 0, 10*time.Millisecond, 100*time.Millisecond
	s.tune = func(c *memberlist.Config) {
		c.ProbeInterval, c.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
		c.GossipInterval, c.SuspicionMult = 10*time.Millisecond, 2
		c.PushPullInterval = 500 * time.Millisecond
		c.TCPTimeout = 2 * time.Second
		c.DeadNodeReclaimTime = 100 * time.Millisecond
	}
	return s
}

// Vanish stops a node as a crash would: nobody is told.
func (g *Group) Vanish() error {
	g.grown.Stop()
	g.cancel()
	g.loops.Wait()
	return g.list.Shutdown()
}

// NewSignerWithRoom returns a signer that remembers no more than limit requests at a time.
func NewSignerWithRoom(name string, s Secret, limit int) *Signer {
	signer := NewSigner(name, s)
	signer.seen.limit = limit
	return signer
}
