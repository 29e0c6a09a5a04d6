//go:build e2e

package fleet_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"mirror/internal/e2e/netlab"
)

// middle is when something happens in the middle of a pull of 32 MiB.
const middle = 2 * time.Second

// losing lets all nodes pull, and does something to the last of them in the middle. The others must get what they want.
func (f *fleet) losing(many int, layer netlab.Layer, what func(i int, n *netlab.Node)) netlab.Pulled {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	survivors, lost := f.Nodes[:len(f.Nodes)-many], f.Nodes[len(f.Nodes)-many:]
	done := make(chan struct{})
	go func() {
		defer close(done)
		netlab.PullAll(ctx, lost, layer, spread)
	}()
	timer := time.AfterFunc(middle, func() {
		for i, n := range lost {
			what(i, n)
		}
	})
	p := f.pull(survivors, layer)
	timer.Stop()
	cancel()
	<-done
	return p
}

// TestAnOwnerIsLost takes a node away in the middle of the pulls of all.
func TestAnOwnerIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		many int
		what func(int, *netlab.Node)
		most float64 // copies from the registry
	}{
		"killed":                    {1, func(_ int, n *netlab.Node) { n.Kill() }, 1.15},
		"stopped":                   {1, func(_ int, n *netlab.Node) { n.Pause() }, 1.15},
		"unplugged":                 {1, func(_ int, n *netlab.Node) { _ = n.Unplug() }, 1.15},
		"three killed, one stopped": {4, killThreeAndPauseOne, 1.3},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, 12, nil)
			layer := f.Registry.AddLayer("1", 32*mib, 1)
			f.losing(c.many, layer, c.what)
			f.sentAtMost(layer, c.most)
		})
	}
}

func killThreeAndPauseOne(i int, n *netlab.Node) {
	if i == 0 {
		n.Pause()
	} else {
		n.Kill()
	}
}

// TestMembersThatCannotReachEachOther lets each node reach only some of the others: their views differ, and no two of them agree
// about who is dead.
func TestMembersThatCannotReachEachOther(t *testing.T) {
	for name, c := range map[string]struct {
		share, most float64
		seed        uint64
		lose        bool
	}{
		"a twentieth":                      {0.05, 1.25, 1, false},
		"a fifth":                          {0.2, 1.5, 2, false},
		"a twentieth, and one has stopped": {0.05, 1.3, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, 12, nil)
			f.cut(c.share, rand.New(rand.NewPCG(c.seed, 0)))
			layer := f.Registry.AddLayer("1", 32*mib, 1)
			if c.lose {
				f.losing(1, layer, func(_ int, n *netlab.Node) { n.Pause() })
			} else {
				f.pull(f.Nodes, layer)
			}
			f.sentAtMost(layer, c.most)
		})
	}
}

// cut makes a share of all pairs of nodes deaf to each other in one direction. Gossip goes on.
func (f *fleet) cut(share float64, dice *rand.Rand) {
	f.t.Helper()
	for _, from := range f.Nodes {
		for _, to := range f.Nodes {
			if from != to && dice.Float64() < share {
				f.must(to.DropTransfers(from))
			}
		}
	}
}

// TestGossipIsSplit leaves two halves that see each other dead although everything else goes through.
func TestGossipIsSplit(t *testing.T) {
	f := assemble(t, 8, func(p *netlab.Plan) {
		p.Configure = func(i int, s *netlab.Settings) { s.Join = []string{netlab.AddressOf(i / 4 * 4)} }
	})
	for i, n := range f.Nodes {
		f.must(n.DropGossip(f.Nodes[4*(1-i/4) : 4*(1-i/4)+4]...))
	}
	for _, n := range f.Nodes {
		f.must(n.Start())
	}
	f.must(f.Meet(4))
	layer := f.Registry.AddLayer("1", 32*mib, 1)
	f.pull(f.Nodes, layer)
	f.sentAtMost(layer, 2.01)
}

// TestASlowMember has one node with a twentieth of the others' rate. When it says so it owns nothing, and nobody waits for it.
func TestASlowMember(t *testing.T) {
	for name, c := range map[string]struct {
		upload string
		within time.Duration
	}{
		"that owns its share":  {"0", slack},
		"that says that it is": {"1MiB", 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, 8, func(p *netlab.Plan) {
				p.Configure = func(i int, s *netlab.Settings) {
					if i == 7 {
						s.Upload = c.upload
					}
				}
			})
			f.must(f.Nodes[7].SetRate(5 * mbit))
			layer := f.Registry.AddLayer("1", 32*mib, 1)
			p := f.pull(f.Nodes[:7], layer)
			f.sentAtMost(layer, 1.01)
			if p.Last() > c.within {
				t.Errorf("the last was done after %v, want at most %v", p.Last(), c.within)
			}
		})
	}
}
