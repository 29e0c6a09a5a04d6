//go:build e2e

package fleet_test

import (
	"testing"

	"mirror/internal/e2e/netlab"
)

// small is the image's configuration, which the registry sends once beside the layer.
const small = 2

// TestAFleetPullsAsOne is the first promise: sixteen cold pulls cost the registry one.
func TestAFleetPullsAsOne(t *testing.T) {
	f := start(t, 16, nil)
	layer := f.Registry.AddLayer("1", 64*mib, 1)
	f.pull(f.Nodes, layer)
	counts := f.Registry.Counts()
	if counts.Bytes > layer.Size+small {
		t.Errorf("the registry sent %d bytes, want %d", counts.Bytes, layer.Size)
	}
	if counts.Blobs > 64+1 || counts.Manifests != 1 || counts.Heads > 1 {
		t.Errorf("the registry was asked %+v, want one request for each chunk, and one for the manifest", counts)
	}
	up := netlab.Uploads(f.Nodes)
	most, all := up.Most/float64(layer.Size), up.All/float64(layer.Size)
	t.Logf("uploads: %.2f copies by the busiest, %.2f by all; %.1f s of processor time", most, all, up.CPU)
	if most > 2 || all < 15*0.97 || all > 15*1.03 {
		t.Errorf("uploads: %.2f copies by the busiest, want at most 2; %.2f by all, want 15", most, all)
	}
}

// TestRegistryWithoutRanges has one key for the whole blob.
func TestRegistryWithoutRanges(t *testing.T) {
	f := start(t, 8, nil)
	layer := f.Registry.AddLayer("1", 32*mib, 1)
	f.Registry.WithoutRanges(true)
	f.pull(f.Nodes, layer)
	f.sentAtMost(layer, 1.05)
}

const mbit = 1_000_000

// places are zones behind links as fast as those of nodes.
func places(names ...string) []netlab.Zone {
	var zones []netlab.Zone
	for _, name := range names {
		zones = append(zones, netlab.Zone{Name: name, Rate: 100 * mbit})
	}
	return zones
}

// TestZones counts what crosses the links between places.
func TestZones(t *testing.T) {
	for name, c := range map[string]struct {
		zones []netlab.Zone
		size  int64
	}{
		"two, one of them behind a thin link": {[]netlab.Zone{{Name: "a"}, {Name: "b", Rate: 25 * mbit}}, 32 * mib},
		"four":                                {places("a", "b", "c", "d"), 32 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, 4*len(c.zones), func(p *netlab.Plan) { p.Zones = c.zones })
			layer := f.Registry.AddLayer("1", c.size, 1)
			before := f.into(c.zones)
			f.pull(f.Nodes, layer)
			f.sentAtMost(layer, 1.02)
			for i, bytes := range f.into(c.zones) {
				copies := float64(bytes-before[i]) / float64(c.size)
				t.Logf("%.3f copies went into zone %s", copies, c.zones[i].Name)
				if copies > 1.1 { // with all headers
					t.Errorf("%.3f copies went into zone %s, want one", copies, c.zones[i].Name)
				}
			}
		})
	}
}

// into returns what has gone into each zone that is behind a link.
func (f *fleet) into(zones []netlab.Zone) []int64 {
	f.t.Helper()
	all := make([]int64, len(zones))
	for i, zone := range zones {
		if zone.Rate > 0 {
			bytes, err := f.Into(i)
			f.must(err)
			all[i] = bytes
		}
	}
	return all
}
