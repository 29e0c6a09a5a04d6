package server_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/peer"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// newMember is a whole node of a cluster, in front of a registry. It believes that it may own nothing.
func newMember(t *testing.T, name string, origin *upstreamtest.Registry, seeds ...string) (*harness, *peer.Group) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg, settings := peer.Defaults(), peer.DefaultSettings()
	cfg.Name, cfg.Listen, cfg.Transfer, cfg.Join, cfg.ChunkSize = name, "127.0.0.1:0", ln.Addr().String(), seeds, peerChunk
	cfg.SecretFile = filepath.Join(t.TempDir(), "secret")
	settings.Disowned, settings.OwnAfter = true, 0
	if err := os.WriteFile(cfg.SecretFile, []byte(peerSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	quiet, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	group, err := peer.New(cfg, settings, quiet, registry)
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := peer.NewExchange(group, peerChunk, quiet, registry)
	if err != nil {
		t.Fatal(err)
	}
	if err := group.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := newHarnessWith(t, options{peers: exchange, hub: func(c *upstream.Config) { c.Endpoints = []string{origin.URL} }})
	peers, served := h.server.Peers(0), make(chan error, 1)
	go func() { served <- peers.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		exchange.Close()
		for _, err := range []error{group.Close(ctx), peers.Shutdown(ctx), <-served} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	return h, group
}

// TestEachBelievesThatTheOtherOwns: two nodes do not wait for each other. Who is asked and may own nothing says so at once, and
// whoever knows nobody else asks the registry: once each, at most.
func TestEachBelievesThatTheOtherOwns(t *testing.T) {
	origin := upstreamtest.New(t)
	content := pattern(20 * peerChunk)
	d := origin.AddBlob("library/app", content)
	a, first := newMember(t, "a", origin)
	b, second := newMember(t, "b", origin, first.Addr().String())
	eventually(t, "the two know each other", func() bool { return len(first.View().Members()) == 2 && len(second.View().Members()) == 2 })
	if first.View().Owner(peer.Key(1)).Name != "b" || second.View().Owner(peer.Key(1)).Name != "a" {
		t.Fatal("they agree on who owns")
	}
	var pulls sync.WaitGroup
	for _, h := range []*harness{a, b} {
		pulls.Go(func() { h.get(blobPath("library/app", d)).want(t, http.StatusOK).wantBody(t, content) })
	}
	pulls.Wait()
	if sent := origin.Sent(d); sent > 2*int64(len(content)) {
		t.Errorf("the registry sent %d bytes to two nodes, for content of %d", sent, len(content))
	}
}
