package peer

import (
	"cmp"
	"maps"
	"slices"

	"mirror/internal/oci"
)

// Key is what members are ranked for: a chunk of a blob, or a tag. It is the same number on every node.
type Key uint64

// ChunkKey returns the key of a chunk. Chunks count from 0; small content is chunk 0 of its digest.
func ChunkKey(d oci.Digest, chunk int64) Key {
	var text [160]byte
	return Key(mix(hashOf(d.AppendTo(text[:0])) + uint64(chunk)*golden))
}

// TagKey returns the key of a tag in a repository of a registry.
func TagKey(registry, repository, tag string) Key {
	h := mix(hashOf(registry)+golden) ^ hashOf(repository)
	return Key(mix(mix(h+golden) ^ hashOf(tag)))
}

// The hash is part of the protocol: nodes that hash differently disagree about who owns what. It is FNV-1a over the bytes,
// and the finalizer of SplitMix64 over the result, in which every bit of the input moves half of the output. It resists
// nobody who makes up names on purpose; who may name members holds the secret.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
	golden    = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, odd
)

func hashOf[T ~string | ~[]byte](text T) uint64 {
	h := uint64(fnvOffset)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return mix(h)
}

// mix is a bijection, so members with different hashes never have the same score.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Higher tells whether the member named a ranks before the member named b for key. It depends on nothing but the names,
// so that no difference between two nodes' views can make a request go round in a circle. No member ranks before itself.
func Higher(key Key, a, b string) bool {
	return compareRank(hashOf(a)^uint64(key), hashOf(b)^uint64(key), a, b) < 0
}

// compareRank orders two members by their unmixed scores. Names whose hashes are equal are ordered as text.
func compareRank(a, b uint64, nameA, nameB string) int {
	return cmp.Or(cmp.Compare(mix(b), mix(a)), cmp.Compare(nameA, nameB))
}

// Names is a set of members' names.
type Names map[string]struct{}

// NamesOf returns the set of the given names.
func NamesOf(names ...string) Names {
	set := make(Names, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return set
}

// with returns the set with one more name.
func (n Names) with(name string) Names {
	if n == nil {
		n = Names{}
	}
	n[name] = struct{}{}
	return n
}

// some lists the names in order, as many as a request may have.
func (n Names) some() []string {
	list := slices.Sorted(maps.Keys(n))
	return list[:min(len(list), maxNames)]
}

// Has tells whether name is in the set.
func (n Names) Has(name string) bool {
	_, ok := n[name]
	return ok
}

// maxTop is the most members that Top finds: nobody asks further down the ranks.
const maxTop = 8

// Ranking is an immutable list of members, ready to be ranked for any key by any number of goroutines. Ranking looks at
// every member, in 15 µs for 5,000 of them; it must not be done for each packet.
type Ranking struct {
	members []*Member // all of them, sorted by name
	owners  candidates
	zones   map[string]candidates // the owners of each zone
}

// candidates are members that may own, sorted by name, with the hashes of their names beside them.
type candidates struct {
	hashes  []uint64
	members []*Member
}

// NewRanking prepares members, whose names differ, for being ranked. Members that have not settled yet are owners only as
// long as fewer than a quarter of all have: when the nodes of a cluster start at the same time, somebody has to begin, and the
// first of them to settle must not own everything alone.
func NewRanking(members []Member) *Ranking {
	r := &Ranking{zones: map[string]candidates{}}
	for i := range members {
		member := members[i]
		r.members = append(r.members, &member)
	}
	slices.SortFunc(r.members, func(a, b *Member) int { return cmp.Compare(a.Name, b.Name) })
	allowed := Refusal(0)
	settled := 0
	for _, m := range r.members {
		if m.Refuses == 0 {
			settled++
		}
	}
	if settled < (len(r.members)+3)/4 {
		allowed = Young
	}
	for _, m := range r.members {
		if m.Refuses&^allowed == 0 {
			r.owners = r.owners.with(m)
			r.zones[m.Zone] = r.zones[m.Zone].with(m)
		}
	}
	return r
}

func (c candidates) with(m *Member) candidates {
	return candidates{hashes: append(c.hashes, hashOf(m.Name)), members: append(c.members, m)}
}

func (c candidates) has(name string) bool {
	_, found := slices.BinarySearchFunc(c.members, name, func(m *Member, name string) int { return cmp.Compare(m.Name, name) })
	return found
}

// Members lists all members, sorted by name. The caller must not change them.
func (r *Ranking) Members() []*Member { return r.members }

// Member returns the member of that name, nil when there is none.
func (r *Ranking) Member(name string) *Member {
	at, found := slices.BinarySearchFunc(r.members, name, func(m *Member, name string) int { return cmp.Compare(m.Name, name) })
	if !found {
		return nil
	}
	return r.members[at]
}

// Owners counts the members that may own something.
func (r *Ranking) Owners() int { return len(r.owners.members) }

// Owner returns the first member for key, those in except left out. It is nil when nobody may own: then there is nobody to
// ask but the upstream.
func (r *Ranking) Owner(key Key, except Names) *Member { return r.owners.best(key, except) }

// ZoneOwner is Owner among the members of one zone.
func (r *Ranking) ZoneOwner(key Key, zone string, except Names) *Member {
	return r.zones[zone].best(key, except)
}

// Top fills dst with the first members for key, those in except left out, and returns the part that it filled. At most 8
// are found.
func (r *Ranking) Top(key Key, dst []*Member, except Names) []*Member {
	return r.owners.top(key, dst, except)
}

// best asks except only about members that would be the best so far, which are few.
func (c candidates) best(key Key, except Names) *Member {
	var top uint64
	at := -1
	for i, hash := range c.hashes {
		score := mix(hash ^ uint64(key))
		if (score > top || at < 0) && (len(except) == 0 || !except.Has(c.members[i].Name)) {
			top, at = score, i
		}
	}
	if at < 0 {
		return nil
	}
	return c.members[at]
}

// top keeps the best so far sorted beside dst. Equal scores keep the order of the names.
func (c candidates) top(key Key, dst []*Member, except Names) []*Member {
	var scores [maxTop]uint64
	wanted, found := min(len(dst), maxTop), 0
	for i, hash := range c.hashes {
		score := mix(hash ^ uint64(key))
		if wanted == 0 || found == wanted && score <= scores[found-1] || except.Has(c.members[i].Name) {
			continue
		}
		found = min(found+1, wanted)
		at := found - 1
		for ; at > 0 && scores[at-1] < score; at-- {
			scores[at], dst[at] = scores[at-1], dst[at-1]
		}
		scores[at], dst[at] = score, c.members[i]
	}
	return dst[:found]
}
