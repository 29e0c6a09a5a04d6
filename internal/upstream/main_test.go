package upstream_test

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is a Registry over a test registry, with its metrics.
type client struct {
	*upstream.Registry
	set     *upstream.Set
	metrics *prometheus.Registry
}

// connect builds a client for origin under the name reg.example. change may alter the configuration first.
func connect(t *testing.T, origin *upstreamtest.Registry, change func(*upstream.Config)) client {
	t.Helper()
	c := upstream.Config{Registry: "reg.example", Endpoints: []string{origin.URL}}
	if change != nil {
		change(&c)
	}
	metrics := prometheus.NewRegistry()
	set, err := upstream.New([]upstream.Config{c}, "1.2.3", "node-1", slog.New(slog.DiscardHandler), metrics)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	r, ok := set.Lookup("reg.example")
	if !ok {
		t.Fatal("the registry that was configured is not there")
	}
	return client{Registry: r, set: set, metrics: metrics}
}

// count returns the sum of a metric over all children with the given label values.
func (c client) count(t *testing.T, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := c.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			matches := 0
			for _, pair := range metric.GetLabel() {
				if want, ok := labels[pair.GetName()]; ok && want == pair.GetValue() {
					matches++
				}
			}
			if matches == len(labels) {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func tag(name string) oci.Reference       { return oci.Reference{Tag: name} }
func digested(d oci.Digest) oci.Reference { return oci.Reference{Digest: d} }
func lint(t *testing.T, r *prometheus.Registry) {
	t.Helper()
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}
