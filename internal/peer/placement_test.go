package peer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"mirror/internal/oci"
	"mirror/internal/peer"
)

// fleet makes members with names such as those of pods, in zones in turn.
func fleet(n int, zones ...string) []peer.Member {
	members := make([]peer.Member, n)
	for i := range members {
		members[i].Name = fmt.Sprintf("mirror-%04d", i)
		if len(zones) > 0 {
			members[i].Zone = zones[i%len(zones)]
		}
	}
	return members
}

// TestHashIsPartOfTheProtocol fails when nodes of two versions would disagree about owners. Then it is not this test that
// has to change, but the version of the protocol.
func TestHashIsPartOfTheProtocol(t *testing.T) {
	f := func(got peer.Key, want uint64) {
		t.Helper()
		if uint64(got) != want {
			t.Errorf("got %#x, want %#x", uint64(got), want)
		}
	}
	empty := oci.MustParseDigest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	f(peer.ChunkKey(empty, 0), 0x2ec251074a037ad3)
	f(peer.ChunkKey(empty, 1), 0x5c1a8ce54004ce8d)
	f(peer.ChunkKey(empty, 1<<40), 0x93d2c41ce7d16d2)
	f(peer.TagKey("docker.io", "library/alpine", "latest"), 0xb88c0bf1a1cb59b1)
	r := peer.NewRanking(fleet(9))
	var order string
	for _, m := range r.Top(peer.ChunkKey(empty, 0), make([]*peer.Member, 8), nil) {
		order += m.Name[len(m.Name)-1:]
	}
	if want := "35170462"; order != want {
		t.Errorf("got the order %s, want %s", order, want)
	}
}

func TestFieldsOfATagDoNotRunTogether(t *testing.T) {
	if peer.TagKey("a", "bc", "d") == peer.TagKey("ab", "c", "d") || peer.TagKey("a", "b", "cd") == peer.TagKey("a", "bc", "d") {
		t.Error("two tags have one key")
	}
	if peer.TagKey("a", "b", "c") == peer.TagKey("b", "a", "c") || peer.TagKey("a", "b", "c") == peer.TagKey("a", "c", "b") {
		t.Error("the order of the parts does not count")
	}
}

func TestNodesAgreeWhateverTheOrderOfTheirLists(t *testing.T) {
	members := fleet(50, "a", "b", "c")
	members[7].Refuses = peer.Draining
	one := peer.NewRanking(members)
	shuffled := slices.Clone(members)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	other := peer.NewRanking(shuffled)
	for chunk := range int64(1000) {
		key := peer.ChunkKey(layer, chunk)
		if a, b := one.Owner(key, nil).Name, other.Owner(key, nil).Name; a != b {
			t.Fatalf("chunk %d: owners %s and %s", chunk, a, b)
		}
		if a, b := one.ZoneOwner(key, "b", nil), other.ZoneOwner(key, "b", nil); a.Name != b.Name || a.Zone != "b" {
			t.Fatalf("chunk %d: owners in the zone %v and %v", chunk, a, b)
		}
	}
}

// TestTopIsOneOrder compares the three ways to ask about ranks with each other.
func TestTopIsOneOrder(t *testing.T) {
	r := peer.NewRanking(fleet(30))
	for chunk := range int64(300) {
		key := peer.ChunkKey(layer, chunk)
		top := r.Top(key, make([]*peer.Member, 8), nil)
		if len(top) != 8 || top[0] != r.Owner(key, nil) {
			t.Fatalf("chunk %d: the first of %d is not the owner", chunk, len(top))
		}
		dead := peer.Names{}
		for i, m := range top {
			if next := r.Owner(key, dead); next != m {
				t.Fatalf("chunk %d: rank %d is %s, without those before it %s", chunk, i, m.Name, next.Name)
			}
			dead[m.Name] = struct{}{}
		}
		if got := r.Top(key, make([]*peer.Member, 3), peer.NamesOf(top[0].Name, top[2].Name)); !slices.Equal(got, []*peer.Member{top[1], top[3], top[4]}) {
			t.Fatalf("chunk %d: two members were not left out", chunk)
		}
		for i := range len(top) - 1 {
			a, b := top[i].Name, top[i+1].Name
			if !peer.Higher(key, a, b) || peer.Higher(key, b, a) || peer.Higher(key, a, a) {
				t.Fatalf("chunk %d: %s is not before %s", chunk, a, b)
			}
		}
	}
}

func TestTopOfFewMembers(t *testing.T) {
	f := func(members, room, want int) {
		t.Helper()
		if got := len(peer.NewRanking(fleet(members)).Top(1, make([]*peer.Member, room), nil)); got != want {
			t.Errorf("%d of %d members: got %d, want %d", room, members, got, want)
		}
	}
	f(0, 3, 0)
	f(2, 3, 2)
	f(3, 3, 3)
	f(9, 0, 0)
	f(20, 20, 8)
}

// TestChangesMoveLittle lets one of 50 members leave: only what it owned gets another owner, and when it comes back all is
// as before.
func TestChangesMoveLittle(t *testing.T) {
	members := fleet(50)
	all, less := peer.NewRanking(members), peer.NewRanking(members[1:])
	gone, moved := members[0].Name, 0
	const chunks = 20_000
	for chunk := range int64(chunks) {
		key := peer.ChunkKey(layer, chunk)
		before, after := all.Owner(key, nil).Name, less.Owner(key, nil).Name
		if before != after {
			moved++
		}
		if before != after && before != gone {
			t.Fatalf("chunk %d moved from %s to %s, although %s left", chunk, before, after, gone)
		}
	}
	if moved < chunks/100 || moved > chunks/25 {
		t.Errorf("%d of %d chunks moved, want about a fiftieth", moved, chunks)
	}
}

func TestOwnersAreBalanced(t *testing.T) {
	const members, layers, chunks = 100, 40, 10_000
	r, owned := peer.NewRanking(fleet(members)), map[string]int{}
	for i := range layers {
		d := oci.DigestOf(oci.SHA256, fmt.Append(nil, i))
		for chunk := range int64(chunks) {
			owned[r.Owner(peer.ChunkKey(d, chunk), nil).Name]++
		}
	}
	const fair = layers * chunks / members
	for name, n := range owned {
		if n < fair*9/10 || n > fair*11/10 {
			t.Errorf("%s owns %d chunks, want within a tenth of %d", name, n, fair)
		}
	}
	if len(owned) != members {
		t.Errorf("%d members own something, want all %d", len(owned), members)
	}
}

func TestWhoMayOwn(t *testing.T) {
	f := func(wantOwners int, refusals ...peer.Refusal) {
		t.Helper()
		members := fleet(len(refusals))
		for i, refuses := range refusals {
			members[i].Refuses = refuses
		}
		r := peer.NewRanking(members)
		owners := map[*peer.Member]bool{}
		for chunk := range int64(500) {
			if m := r.Owner(peer.ChunkKey(layer, chunk), nil); m != nil {
				owners[m] = true
			}
		}
		if len(owners) != wantOwners || r.Owners() != wantOwners {
			t.Errorf("%v: %d own something, %d are owners, want %d", refusals, len(owners), r.Owners(), wantOwners)
		}
	}
	f(3, 0, 0, 0)
	f(2, 0, peer.Draining, 0)
	f(1, 0, peer.Young, peer.DiskFull)
	f(2, peer.Young, peer.Young, peer.Slow)
	f(1, peer.Young, peer.Young|peer.DiskFull, 1<<7)
	f(0, peer.Draining, peer.DiskFull, peer.Slow)
	f(0)
}

func TestZoneWithoutOwners(t *testing.T) {
	members := fleet(4, "a", "b")
	members[1].Refuses, members[3].Refuses = peer.Slow, peer.Slow
	r := peer.NewRanking(members)
	if got := r.ZoneOwner(1, "b", nil); got != nil {
		t.Errorf("%s owns in a zone whose members all refuse", got.Name)
	}
	if got := r.ZoneOwner(1, "nowhere", nil); got != nil {
		t.Errorf("%s owns in a zone that is not there", got.Name)
	}
	if got := r.Owner(1, peer.NamesOf(members[0].Name, members[2].Name)); got != nil {
		t.Errorf("%s owns although all owners are left out", got.Name)
	}
}

func TestRankingAllocatesNothing(t *testing.T) {
	r, top := peer.NewRanking(fleet(100, "a", "b")), make([]*peer.Member, 3)
	chunk := int64(0)
	if got := testing.AllocsPerRun(100, func() {
		key := peer.ChunkKey(layer, chunk)
		chunk++
		r.Owner(key, nil)
		r.ZoneOwner(key, "a", nil)
		r.Top(key, top, nil)
		peer.Higher(key, "mirror-0001", "mirror-0002")
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

var sink *peer.Member

func BenchmarkOwnerOf5000(b *testing.B) {
	r := peer.NewRanking(fleet(5000))
	b.ReportAllocs()
	for chunk := int64(0); b.Loop(); chunk++ {
		sink = r.Owner(peer.ChunkKey(layer, chunk), nil)
	}
}

func BenchmarkTop3Of5000(b *testing.B) {
	r, top := peer.NewRanking(fleet(5000)), make([]*peer.Member, 3)
	b.ReportAllocs()
	for chunk := int64(0); b.Loop(); chunk++ {
		sink = r.Top(peer.ChunkKey(layer, chunk), top, nil)[0]
	}
}

func BenchmarkNewRankingOf5000(b *testing.B) {
	members := fleet(5000)
	b.ReportAllocs()
	for b.Loop() {
		sink = peer.NewRanking(members).Members()[0]
	}
}
