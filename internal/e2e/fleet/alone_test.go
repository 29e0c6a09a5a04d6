//go:build e2e

package fleet_test

import (
	"testing"
	"time"

	"mirror/internal/e2e/netlab"
)

// TestPeersThatAreNoHelp compares a pull by one node whose peers are of no use with one without peers.
func TestPeersThatAreNoHelp(t *testing.T) {
	const size = 32 * mib
	var alone time.Duration
	t.Run("without peers", func(t *testing.T) {
		alone = start(t, 1, func(p *netlab.Plan) {
			p.Configure = func(_ int, s *netlab.Settings) { s.SecretFile = "" }
		}).timed(size)
	})
	for name, what := range map[string]func(n *netlab.Node){
		"nobody is there": nil,
		"they hang":       (*netlab.Node).Pause,
		"they are gone":   (*netlab.Node).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			nodes := 8
			if what == nil {
				nodes = 1
			}
			f := start(t, nodes, nil)
			for _, n := range f.Nodes[1:] {
				what(n)
			}
			took := f.timed(size)
			t.Logf("%v, without peers %v", took, alone)
			f.sentAtMost(netlab.Layer{Size: size}, 1.01)
			if took > 2*alone+5*time.Second {
				t.Errorf("the pull took %v, without peers %v", took, alone)
			}
		})
	}
}

// timed lets the first node pull a layer.
func (f *fleet) timed(size int64) time.Duration {
	f.t.Helper()
	return f.pull(f.Nodes[:1], f.Registry.AddLayer("1", size, 1)).Last()
}
