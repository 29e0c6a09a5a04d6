package peer_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mirror/internal/oci"
	"mirror/internal/peer"
)

var errNoSuchHost = errors.New("no such host")

var layer = oci.DigestOf(oci.SHA256, []byte("layer"))

func TestJoinThroughOneSeed(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", nil, a)
	c := start(t, "c", nil, a)
	agree(t, "a b c", a, b, c)
	key := peer.ChunkKey(layer, 0)
	if x, y, z := a.View().Owner(key), b.View().Owner(key), c.View().Owner(key); x.Name != y.Name || y.Name != z.Name {
		t.Errorf("the owners are %s, %s and %s", x.Name, y.Name, z.Name)
	}
	if got := b.View().Member("a").Gossip; got != a.Addr() {
		t.Errorf("b believes a at %s, want %s", got, a.Addr())
	}
	if got := a.value(t, "mirror_peer_members", "own"); got != 3 {
		t.Errorf("mirror_peer_members is %v, want 3", got)
	}
	eventually(t, "b says that it has joined", func() bool { return b.log.count("joined the cluster") == 1 })
}

// TestSeedThatComesLater starts before its seed, which a whole fleet does at the same time.
func TestSeedThatComesLater(t *testing.T) {
	addresses := &names{}
	seed := func(c *peer.Config, s *peer.Settings) { c.Join, s.Resolver = []string{"seeds.example"}, addresses }
	early := start(t, "early", seed)
	eventually(t, "it warns", func() bool { return early.log.count("no other member could be reached") == 1 })
	if view := early.View(); !view.Alone() || view.Owner(peer.ChunkKey(layer, 0)).Name != "early" {
		t.Errorf("a node that is alone knows %v", early.names())
	}
	late := start(t, "late", func(c *peer.Config, _ *peer.Settings) {
		c.Listen = fmt.Sprintf("127.0.0.2:%d", early.Addr().Port())
	})
	addresses.set("seeds.example", early.Addr().Addr(), late.Addr().Addr())
	agree(t, "early late", early, late)
	if got := early.log.count("level=WARN"); got != 1 {
		t.Errorf("%d warnings, want one", got)
	}
}

// TestNameWithManyAddresses is a headless service: some of its addresses are dead, one is the node itself.
func TestNameWithManyAddresses(t *testing.T) {
	a := start(t, "a", func(c *peer.Config, _ *peer.Settings) { c.Listen = "127.0.0.1:0" })
	port := a.Addr().Port()
	addresses := &names{}
	addresses.set("peers.example", addr("127.0.0.9"), addr("127.0.0.3"), addr("127.0.0.1"), addr("127.0.0.2"))
	join := func(listen string) func(*peer.Config, *peer.Settings) {
		return func(c *peer.Config, s *peer.Settings) {
			c.Listen = fmt.Sprintf("%s:%d", listen, port)
			c.Join, s.Resolver = []string{"peers.example"}, addresses
		}
	}
	b, c := start(t, "b", join("127.0.0.2")), start(t, "c", join("127.0.0.3"))
	agree(t, "a b c", a, b, c)
}

func TestAnotherSecretIsRefused(t *testing.T) {
	a := start(t, "a", withSecret(secretFile(t, "a passphrase of the cluster")))
	b := start(t, "b", withSecret(secretFile(t, "a passphrase of the cluster")), a)
	agree(t, "a b", a, b)
	stranger := start(t, "stranger", withSecret(secretFile(t, "a passphrase of somebody else")), a, b)
	open := start(t, "open", nil, a)
	for _, n := range []*node{a, stranger, open} {
		eventually(t, n.Name()+" has counted a refusal", func() bool { return n.value(t, "mirror_peer_refused_total", "secret") >= 2 })
		if got := n.log.count("do not match"); got < 1 || got > 2 {
			t.Errorf("%s says %d times that the secrets do not match", n.Name(), got)
		}
		if strings.Contains(n.log.String(), "passphrase") {
			t.Errorf("the log of %s holds a secret", n.Name())
		}
	}
	agree(t, "a b", a, b)
	agree(t, "stranger", stranger)
	agree(t, "open", open)
}

func TestAnotherClusterIsRefused(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", func(c *peer.Config, _ *peer.Settings) { c.Cluster = "other" }, a)
	eventually(t, "a has counted", func() bool { return a.value(t, "mirror_peer_refused_total", "cluster") >= 1 })
	agree(t, "a", a)
	agree(t, "b", b)
}

func TestAnotherChunkSizeIsRefused(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", func(c *peer.Config, _ *peer.Settings) { c.ChunkSize = 1 << 20 }, a)
	for _, n := range []*node{a, b} {
		eventually(t, "a refusal", func() bool { return n.value(t, "mirror_peer_refused_total", "chunk_size") >= 1 })
		if got := n.log.count("level=WARN"); got != 1 {
			t.Errorf("%s explains the refusal %d times, want once", n.Name(), got)
		}
	}
	agree(t, "a", a)
	agree(t, "b", b)
}

func TestLeave(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", nil, a)
	agree(t, "a b", a, b)
	b.leave(t)
	agree(t, "a", a)
}

func TestSameNameOnANewAddress(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", nil, a)
	f := func(how string, stop func() error) {
		t.Helper()
		agree(t, "a b", a, b)
		run := a.View().Member("b").Start
		b.gone = true
		if err := stop(); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		b = start(t, "b", nil, a)
		eventually(t, how+": a knows the new address", func() bool {
			m := a.View().Member("b")
			return m != nil && m.Gossip == b.Addr() && m.Start != run
		})
	}
	f("left", func() error { return b.Close(t.Context()) })
	f("crashed", func() error { return b.Vanish() })
	if a.value(t, "mirror_peer_refused_total", "name") == 0 {
		t.Error("the contest for the name was not counted")
	}
}

// TestRotation replaces the key of a cluster in three steps, told to one member after the other, and checks after each
// that nobody was lost.
func TestRotation(t *testing.T) {
	const before, after = "the passphrase of last year", "the passphrase of this year"
	files := []string{secretFile(t, before), secretFile(t, before), secretFile(t, before)}
	a := start(t, "a", withSecret(files[0]))
	b := start(t, "b", withSecret(files[1]), a)
	c := start(t, "c", withSecret(files[2]), a)
	nodes := []*node{a, b, c}
	agree(t, "a b c", nodes...)
	for _, step := range [][]string{{before, after}, {after, before}, {after}} {
		for i, n := range nodes {
			writeSecret(t, files[i], step...)
			if err := n.Reload(); err != nil {
				t.Fatal(err)
			}
			// A change of metadata passes the gossip with the keys of this moment.
			room := n.View().Self().Room + 1
			n.SetRoom(room)
			for _, other := range nodes {
				eventually(t, "the change is seen", func() bool { m := other.View().Member(n.Name()); return m != nil && m.Room == room })
			}
			header, _ := n.Sign("a", peer.Request{Method: "GET", Target: "/"})
			if _, err := a.Verify(header, peer.Request{Method: "GET", Target: "/"}); err != nil {
				t.Errorf("after %q on %s: %v", step, n.Name(), err)
			}
		}
	}
	for _, n := range nodes {
		if got := n.value(t, "mirror_peer_refused_total", "secret"); got != 0 {
			t.Errorf("%s refused %v messages", n.Name(), got)
		}
	}
	late := start(t, "late", withSecret(secretFile(t, before)), a)
	eventually(t, "the old key is refused", func() bool { return late.value(t, "mirror_peer_refused_total", "secret") > 0 })
}

func TestReloadOfABrokenFileChangesNothing(t *testing.T) {
	file := secretFile(t, "the passphrase of the cluster")
	a := start(t, "a", withSecret(file))
	writeSecret(t, file, "too short")
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), "line 1") || strings.Contains(err.Error(), "too short\"") {
		t.Errorf("got %v, want an error that names line 1", err)
	}
	b := start(t, "b", withSecret(secretFile(t, "the passphrase of the cluster")), a)
	agree(t, "a b", a, b)
}

func TestRefusalIsToldAtOnceAndWithdrawnLater(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", func(_ *peer.Config, s *peer.Settings) { s.Settle = time.Hour }, a)
	agree(t, "a b", a, b)
	b.SetRefusal(peer.DiskFull, true)
	eventually(t, "b owns nothing", func() bool { return a.View().Owners() == 1 && a.View().Member("b").Refuses == peer.DiskFull })
	b.SetRefusal(peer.DiskFull, false)
	b.SetRefusal(peer.Slow, true)
	eventually(t, "both reasons hold", func() bool { return a.View().Member("b").Refuses == peer.DiskFull|peer.Slow })
}

func TestYoungMemberOwnsLater(t *testing.T) {
	a := start(t, "a", nil)
	grow := func(after time.Duration) func(*peer.Config, *peer.Settings) {
		return func(_ *peer.Config, s *peer.Settings) { s.OwnAfter = after }
	}
	b := start(t, "b", grow(time.Hour), a)
	c := start(t, "c", grow(300*time.Millisecond), a)
	agree(t, "a b c", a, b, c)
	eventually(t, "c has grown up", func() bool { return a.View().Owners() == 2 && b.View().Owners() == 2 })
	if got := a.View().Member("b").Refuses; got != peer.Young {
		t.Errorf("b refuses for %v, want young", got)
	}
}

func TestDeadMemberIsPassedOver(t *testing.T) {
	a := start(t, "a", func(_ *peer.Config, s *peer.Settings) { s.DeadFor = 200 * time.Millisecond })
	b := start(t, "b", nil, a)
	agree(t, "a b", a, b)
	key := keyOf(a.View(), "b")
	a.Dead("b")
	a.Dead("a")
	a.Dead("nobody")
	if view := a.View(); view.Owner(key).Name != "a" || !view.Passed("b") || len(view.Members()) != 2 {
		t.Errorf("the owner is %s, want a", view.Owner(key).Name)
	}
	eventually(t, "b is believed to live", func() bool { return a.View().Owner(key).Name == "b" })
	a.Dead("b")
	a.Alive("b")
	if got := a.View().Owner(key).Name; got != "b" {
		t.Errorf("the owner is %s, want b, which has answered", got)
	}
	if got := a.value(t, "mirror_peer_found_dead_total", ""); got != 2 {
		t.Errorf("%v deaths counted, want 2", got)
	}
}

func TestWithoutIsForOneView(t *testing.T) {
	a := start(t, "a", nil)
	b := start(t, "b", nil, a)
	agree(t, "a b", a, b)
	key := keyOf(a.View(), "b")
	if got := a.View().Without("b", "a", "nobody").Owner(key).Name; got != "a" {
		t.Errorf("the owner is %s, want a", got)
	}
	if got := a.View().Owner(key).Name; got != "b" {
		t.Errorf("the owner in the next view is %s, want b", got)
	}
}

func TestZonesAndTransferAddressAreTold(t *testing.T) {
	place := func(zone, transfer string) func(*peer.Config, *peer.Settings) {
		return func(c *peer.Config, _ *peer.Settings) { c.Zone, c.Transfer = zone, transfer }
	}
	a := start(t, "a", place("east", ""))
	b := start(t, "b", place("west", "127.0.0.7:7007"), a)
	agree(t, "a b", a, b)
	if m := a.View().Member("b"); m.Zone != "west" || m.Transfer.String() != "127.0.0.7:7007" {
		t.Errorf("b is in %q at %s", m.Zone, m.Transfer)
	}
	key := keyOf(a.View(), "b")
	if got := a.View().ZoneOwner(key).Name; got != "a" {
		t.Errorf("the owner in the zone is %s, want a", got)
	}
	if got := a.value(t, "mirror_peer_members", "other"); got != 1 {
		t.Errorf("%v members elsewhere, want 1", got)
	}
}

// keyOf finds a chunk that a member owns.
func keyOf(v peer.View, owner string) peer.Key {
	for chunk := int64(0); ; chunk++ {
		if key := peer.ChunkKey(layer, chunk); v.Owner(key).Name == owner {
			return key
		}
	}
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }
