//go:build linux

package netlab

// Traffic is what nodes have exchanged, in bytes, since they were started.
type Traffic struct {
	Most, All            float64 // sent by the busiest, and by all of them
	Redirects, Takeovers float64
	Slow, Dead           float64 // how often somebody was found so
	CPU                  float64 // in seconds, of all of them
}

// Uploads sums up what nodes say of themselves. Those that do not answer count nothing.
func Uploads(nodes []*Node) Traffic {
	var t Traffic
	for _, n := range nodes {
		if !n.running() {
			continue
		}
		out, err := n.Metric(`mirror_peer_bytes_total{direction="out"}`)
		if err != nil {
			continue
		}
		t.All += out
		t.Most = max(t.Most, out)
		redirects, _ := n.Metric("mirror_peer_redirects_total")
		takeovers, _ := n.Metric("mirror_peer_fallbacks_total")
		slow, _ := n.Metric("mirror_peer_slow_total")
		dead, _ := n.Metric("mirror_peer_found_dead_total")
		t.Slow, t.Dead = t.Slow+slow, t.Dead+dead
		cpu, _ := n.CPU()
		t.Redirects, t.Takeovers, t.CPU = t.Redirects+redirects, t.Takeovers+takeovers, t.CPU+cpu.Seconds()
	}
	return t
}
