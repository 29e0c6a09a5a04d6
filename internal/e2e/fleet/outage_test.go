//go:build e2e

package fleet_test

import (
	"testing"
	"time"

	"mirror/internal/e2e/netlab"
)

// TestTheRegistryIsOff starts a fleet again whose members hold different layers, and lets every member pull every layer.
func TestTheRegistryIsOff(t *testing.T) {
	f := start(t, 6, nil)
	layers := make([]netlab.Layer, len(f.Nodes))
	for i, n := range f.Nodes {
		layers[i] = f.Registry.AddLayer("tag-"+n.Name, 8*mib, uint64(i))
		f.pull(f.Nodes[i:i+1], layers[i])
	}
	for _, n := range f.Nodes {
		n.Stop()
	}
	f.must(f.Registry.Stop())
	f.must(f.Start())
	for _, layer := range layers {
		f.pull(f.Nodes, layer)
	}
}

// TestWarmFleetStartsAgain must not ask the registry for any layer.
func TestWarmFleetStartsAgain(t *testing.T) {
	f := start(t, 16, nil)
	layer := f.Registry.AddLayer("1", 16*mib, 1)
	f.pull(f.Nodes, layer)
	for _, n := range f.Nodes {
		n.Stop()
	}
	f.Registry.Reset()
	f.must(f.Start())
	f.pull(f.Nodes, layer)
	if counts := f.Registry.Counts(); counts.Bytes != 0 {
		t.Errorf("the registry was asked for %+v", counts)
	}
}

// settled is after how long a member may own whoever else is there. When all of them are younger, all own.
const settled = 61 * time.Second

// TestEmptyNodesJoin has as many new members as there were. They own nothing in their first minute.
func TestEmptyNodesJoin(t *testing.T) {
	f := assemble(t, 16, nil)
	old, young := f.Nodes[:8], f.Nodes[8:]
	for _, n := range old {
		f.must(n.Start())
	}
	f.must(f.Meet(8))
	layer := f.Registry.AddLayer("1", 16*mib, 1)
	f.pull(old, layer)
	f.Registry.Reset()
	time.Sleep(settled)
	f.must(f.Start())
	f.pull(young, layer)
	f.sentAtMost(layer, 0)
}
