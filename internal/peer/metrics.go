package peer

import (
	"github.com/prometheus/client_golang/prometheus"
)

// reason says why somebody or something was refused, in the words of the metrics.
type reason string

const (
	reasonSecret    reason = "secret"     // gossip under another key, or under none
	reasonCluster   reason = "cluster"    // gossip of another cluster
	reasonName      reason = "name"       // a second member of a name
	reasonChunkSize reason = "chunk_size" // a member with another unit of exchange
	reasonVersion   reason = "version"    // a member that speaks no version of ours
	reasonUnsigned  reason = "unsigned"   // a request without a signature
	reasonForged    reason = "forged"     // a request or an answer with a wrong one
	reasonClock     reason = "clock"      // a request from another time
	reasonReplayed  reason = "replayed"   // a request that was seen before
	reasonCrowded   reason = "crowded"    // a request too many
)

var reasons = []reason{
	reasonSecret, reasonCluster, reasonName, reasonChunkSize, reasonVersion,
	reasonUnsigned, reasonForged, reasonClock, reasonReplayed, reasonCrowded,
}

// metrics counts what happens between the members.
type metrics struct {
	dead    prometheus.Counter
	refused map[reason]prometheus.Counter
}

// newMetrics registers the metrics. view is asked on each scrape.
func newMetrics(reg prometheus.Registerer, view func() View) (*metrics, error) {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_peer_refused_total",
		Help: "What was refused from peers, by reason. secret, cluster: gossip under another key or of another cluster. name, chunk_size, version: each time a member that does not fit makes itself heard. The others: requests between members that were not signed, whose signature does not match, that come from another time, a second time, or too often.",
	}, []string{"reason"})
	m := &metrics{
		dead: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mirror_peer_found_dead_total",
			Help: "Members that did not answer this node and were passed over for some seconds.",
		}),
		refused: make(map[reason]prometheus.Counter, len(reasons)),
	}
	for _, r := range reasons {
		m.refused[r] = refused.WithLabelValues(string(r))
	}
	for _, collector := range append(gauges(view), refused, m.dead) {
		if err := reg.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func gauges(view func() View) []prometheus.Collector {
	const name, help = "mirror_peer_members", "Members of the cluster that this node knows, itself included: in its own zone, and in others."
	own := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"zone": "own"}}, func() float64 {
		inZone, _ := view().count()
		return float64(inZone)
	})
	others := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"zone": "other"}}, func() float64 {
		_, elsewhere := view().count()
		return float64(elsewhere)
	})
	owners := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mirror_peer_owners",
		Help: "Members that may own content. None means that everything is fetched from the upstreams.",
	}, func() float64 { return float64(view().Owners()) })
	return []prometheus.Collector{own, others, owners}
}

// traffic counts what is exchanged with peers.
type traffic struct {
	in, out, redirects, complaints, takeovers, rescues, wrong prometheus.Counter
}

func newTraffic(reg prometheus.Registerer) (*traffic, error) {
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirror_peer_bytes_total",
		Help: "Bytes of blobs that came from peers (in) and went to them (out).",
	}, []string{"direction"})
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	t := &traffic{
		in: bytes.WithLabelValues("in"), out: bytes.WithLabelValues("out"),
		redirects:  counter("mirror_peer_redirects_total", "Times that the owner of a chunk has sent this node to an earlier asker."),
		complaints: counter("mirror_peer_slow_total", "Times that a peer was so slow that another was looked for."),
		takeovers:  counter("mirror_peer_fallbacks_total", "Chunks that this node asked the registry for although another member owns them, because nothing moved there or it could not."),
		rescues:    counter("mirror_peer_rescues_total", "Chunks that came from some member that had them when the registry could not be asked."),
		wrong:      counter("mirror_peer_wrong_chunks_total", "Chunks with wrong bytes that peers have sent. The log names the peers, which may have passed them on in good faith."),
	}
	for _, c := range []prometheus.Collector{bytes, t.redirects, t.complaints, t.takeovers, t.rescues, t.wrong} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return t, nil
}
