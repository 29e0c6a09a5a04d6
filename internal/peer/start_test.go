package peer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mirror/internal/peer"
)

// TestStopDoesNotWaitForASeed has a seed that accepts connections and never says anything.
func TestStopDoesNotWaitForASeed(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := silent.Accept(); err == nil {
			accepted <- conn
		}
	}()
	n := start(t, "a", func(c *peer.Config, s *peer.Settings) {
		c.Join = []string{silent.Addr().String()}
	})
	defer (<-accepted).Close()
	stopped := make(chan struct{})
	go func() {
		n.leave(t)
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Fatal("the stop waits for a seed")
	}
}

func TestPortThatIsTaken(t *testing.T) {
	a := start(t, "a", nil)
	cfg := peer.Defaults()
	cfg.Name, cfg.Listen = "b", a.Addr().String()
	g, err := peer.New(cfg, peer.Hasty(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "change peers.listen") {
		t.Errorf("got %v, want an error that names peers.listen", err)
	}
	if err := g.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAdvertisedName(t *testing.T) {
	addresses := &names{}
	addresses.set("node.example", addr("127.0.0.5"))
	secret := secretFile(t, passphrase)
	n := start(t, "a", func(c *peer.Config, s *peer.Settings) {
		c.Advertise, c.SecretFile, s.Resolver = "node.example", secret, addresses
	})
	if got := n.Addr().Addr(); got != addr("127.0.0.5") {
		t.Errorf("it is at %s, want 127.0.0.5", got)
	}
	cfg, settings := peer.Defaults(), peer.Hasty()
	cfg.Name, cfg.Listen, cfg.Advertise, cfg.SecretFile, settings.Resolver = "b", "127.0.0.1:0", "nowhere.example", secret, addresses
	g, err := peer.New(cfg, settings, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); !errors.Is(err, errNoSuchHost) || !strings.Contains(err.Error(), "peers.advertise") {
		t.Errorf("got %v, want an error that names peers.advertise", err)
	}
}

func TestNewReadsTheSecret(t *testing.T) {
	cfg := peer.Defaults()
	cfg.Name, cfg.Listen, cfg.SecretFile = "a", "127.0.0.1:0", "/nowhere/secret"
	if _, err := peer.New(cfg, peer.Hasty(), slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), "/nowhere/secret") {
		t.Errorf("got %v, want an error with the name of the file", err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	n := start(t, "a", nil)
	if problems, err := testutil.GatherAndLint(n.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestRefusedRequestsAreCounted(t *testing.T) {
	n := start(t, "a", nil)
	r := peer.Request{Method: "GET", Target: "/"}
	header, proof := n.Sign("a", r)
	for _, header := range []string{"", header, header, strings.Replace(header, "Peer a", "Peer b", 1)} {
		n.Verify(header, r)
	}
	if err := n.VerifyAnswer(proof, peer.Answer{}, ""); !errors.Is(err, peer.ErrForged) {
		t.Errorf("got %v, want %v", err, peer.ErrForged)
	}
	for reason, want := range map[string]float64{"unsigned": 1, "replayed": 1, "forged": 2, "clock": 0, "crowded": 0} {
		if got := n.value(t, "mirror_peer_refused_total", reason); got != want {
			t.Errorf("%s: got %v, want %v", reason, got, want)
		}
	}
}

// TestViewsWhileMembersComeAndGo reads views as fast as it can; the race detector does the rest.
func TestViewsWhileMembersComeAndGo(t *testing.T) {
	a := start(t, "a", nil)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for chunk := int64(0); ; chunk++ {
			select {
			case <-stop:
				return
			default:
			}
			view := a.View()
			if owner := view.Owner(peer.ChunkKey(layer, chunk)); owner == nil || view.Member(owner.Name) != owner || view.Self() == nil {
				t.Errorf("a view does not agree with itself")
				return
			}
		}
	}()
	for i := range 5 {
		b := start(t, fmt.Sprint("b", i), nil, a)
		eventually(t, "b is there", func() bool { return a.View().Member(b.Name()) != nil })
		a.Dead(b.Name())
		b.SetRefusal(peer.Slow, true)
		b.leave(t)
	}
	close(stop)
	<-done
	agree(t, "a", a)
}
