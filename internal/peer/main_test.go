package peer_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"mirror/internal/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a member of a test, on loopback.
type node struct {
	*peer.Group
	registry *prometheus.Registry
	log      *lines
	gone     bool
}

// start starts a member that joins the given ones. change may alter its configuration and settings first.
func start(t *testing.T, name string, change func(*peer.Config, *peer.Settings), seeds ...*node) *node {
	t.Helper()
	cfg, settings := peer.Defaults(), peer.Hasty()
	cfg.Name, cfg.Listen = name, "127.0.0.1:0"
	for _, seed := range seeds {
		cfg.Join = append(cfg.Join, seed.Addr().String())
	}
	if change != nil {
		change(&cfg, &settings)
	}
	n := &node{registry: prometheus.NewRegistry(), log: &lines{}}
	var err error
	n.Group, err = peer.New(cfg, settings, slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})), n.registry)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.leave(t) })
	return n
}

// leave stops a member, once.
func (n *node) leave(t *testing.T) {
	t.Helper()
	if n.gone {
		return
	}
	n.gone = true
	if err := n.Close(context.Background()); err != nil {
		t.Errorf("close %s: %v", n.Name(), err)
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", n.Name(), n.log)
	}
}

// names lists the members that a node knows.
func (n *node) names() string {
	var names []string
	for _, m := range n.View().Members() {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

// value returns a metric of a node, by name and the value of its label.
func (n *node) value(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && (label == "" || metric.GetLabel()[0].GetValue() == label) {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s with %q", name, label)
	return 0
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// agree waits until every node knows just the members of that name.
func agree(t *testing.T, names string, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, n.Name()+" knows "+names, func() bool { return n.names() == names })
	}
}

// secretFile writes a secret file with these lines.
func secretFile(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	writeSecret(t, file, lines...)
	return file
}

func writeSecret(t *testing.T, file string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// withSecret makes a node use a secret file.
func withSecret(file string) func(*peer.Config, *peer.Settings) {
	return func(c *peer.Config, _ *peer.Settings) { c.SecretFile = file }
}

// lines collects what a node logs.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// count returns how many lines hold a text.
func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

// names is a resolver of a test.
type names struct {
	mu    sync.Mutex
	known map[string][]netip.Addr
}

func (n *names) set(host string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = map[string][]netip.Addr{host: addrs}
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addrs := n.known[host]; len(addrs) > 0 {
		return addrs, nil
	}
	return nil, errNoSuchHost
}
