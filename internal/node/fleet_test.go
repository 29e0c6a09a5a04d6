package node_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/config"
	"mirror/internal/node"
	"mirror/internal/units"
	"mirror/internal/upstream/upstreamtest"
)

// fleet is nodes that know each other.
type fleet []*node.Node

// startFleet starts nodes on loopback and waits until each of them knows all.
func startFleet(t *testing.T, size int, origin *upstreamtest.Registry) fleet {
	t.Helper()
	cfgs := fleetConfigs(t, size, origin)
	var nodes fleet
	for _, cfg := range cfgs {
		nodes = append(nodes, start(t, cfg))
	}
	nodes.meet(t, size)
	return nodes
}

// fleetConfigs returns the configurations of nodes whose first is the others' seed.
func fleetConfigs(t *testing.T, size int, origin *upstreamtest.Registry) []config.Config {
	t.Helper()
	var cfgs []config.Config
	for i := range size {
		cfg := configFor(t, origin)
		cfg.Peers.Name, cfg.Peers.ChunkSize = fmt.Sprintf("n%d", i+1), units.MiB
		cfg.Peers.Listen, cfg.Peers.Transfer = freeAddress(t), "127.0.0.1:0"
		if i > 0 {
			cfg.Peers.Join = []string{cfgs[0].Peers.Listen}
		}
		cfgs = append(cfgs, cfg)
	}
	return cfgs
}

// freeAddress returns an address on which nobody listens: a seed must be known before the node that is there.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// meet waits until each node knows as many members as there are.
func (f fleet) meet(t *testing.T, members int) {
	t.Helper()
	for _, n := range f {
		for begin := time.Now(); metric(t, n, `mirror_peer_members{zone="own"}`) != fmt.Sprint(members); time.Sleep(20 * time.Millisecond) {
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("a node knows %s members after %v, want %d", metric(t, n, `mirror_peer_members{zone="own"}`), time.Since(begin), members)
			}
		}
	}
}

// metric returns the value of a metric as /metrics tells it.
func metric(t *testing.T, n *node.Node, name string) string {
	t.Helper()
	_, body := get(t, n.AdminAddr(), "/metrics")
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("there is no metric %s", name)
	return ""
}

// pull gets a path from all nodes at once and compares.
func (f fleet) pull(t *testing.T, path string, want []byte) {
	t.Helper()
	var wg sync.WaitGroup
	for i, n := range f {
		wg.Go(func() {
			if status, body := get(t, n.Addr(), path); status != http.StatusOK || !bytes.Equal(body, want) {
				t.Errorf("node %d: %s: got %d and %d bytes, want %d bytes", i+1, path, status, len(body), len(want))
			}
		})
	}
	wg.Wait()
}

// TestAFleetPullsAsOne lets three empty nodes pull one image at the same time.
func TestAFleetPullsAsOne(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 20<<20, 300_000)
	nodes := startFleet(t, 3, origin)

	nodes.pull(t, "/v2/library/debian/manifests/12", image.Manifest)
	for _, layer := range image.Layers {
		nodes.pull(t, "/v2/library/debian/blobs/"+layer.Digest.String(), layer.Bytes)
		if sent := origin.Sent(layer.Digest); sent != layer.Size {
			t.Errorf("the registry sent %d bytes of a layer of %d", sent, layer.Size)
		}
	}
	if got := origin.Count(upstreamtest.Manifest, ""); got != 1 {
		t.Errorf("the registry was asked for the manifest %d times, want once", got)
	}
}
