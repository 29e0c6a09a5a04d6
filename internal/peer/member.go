package peer

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// Member is one node as the others know it.
type Member struct {
	// Name is unique in the cluster and stays the same over restarts. Placement hangs on it.
	Name string
	// Zone is the place that the node was configured for.
	Zone string
	// Gossip is where it takes part in the gossip.
	Gossip netip.AddrPort
	// Transfer is where it serves content to peers. Its port is 0 when it serves none.
	Transfer netip.AddrPort
	// Refuses holds the reasons why it must not own anything. Zero means that it may.
	Refuses Refusal
	// Room is the size of its cache.
	Room Room
	// Start differs between two runs of one node.
	Start uint64
	// Versions are the versions of the transfer protocol that it speaks.
	Versions Versions
	// ChunkSize is its unit of exchange in bytes. The gossip admits no member with another one than ours.
	ChunkSize uint64
}

// Refusal is a set of reasons why a member must not own anything. All but Young exclude it from owning; the meaning of
// bits that this version does not know is the same.
type Refusal uint8

// The reasons for a refusal.
const (
	// Young is a node that has just started: were it an owner at once, its peers would ask it for what it does not have.
	// When every node is young, it does not count.
	Young Refusal = 1 << iota
	// Draining is a node that is about to stop.
	Draining
	// DiskFull is a node that cannot store what it would own.
	DiskFull
	// Slow is a node whose link is so slow that it would hold up everybody who asks it.
	Slow
)

// String lists the reasons, "none" when there is none.
func (r Refusal) String() string {
	var words []string
	for i, word := range []string{"young", "draining", "disk full", "slow"} {
		if r&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	if unknown := r &^ (Young | Draining | DiskFull | Slow); unknown != 0 {
		words = append(words, fmt.Sprintf("unknown %#x", uint8(unknown)))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// Room is the class of a cache's size: 0 is less than a GiB, n is at least 2^(n-1) GiB and less than twice that. A coarse
// number, because each change of it is told to the whole cluster.
type Room uint8

// RoomOf returns the class of a number of bytes.
func RoomOf(size int64) Room { return Room(bits.Len64(uint64(max(size, 0)) >> 30)) }

// Versions is a range of versions of the transfer protocol, both ends included.
type Versions struct{ Min, Max uint8 }

// spoken is the range of versions that this program speaks. A change that older members would misunderstand adds one; Min rises a
// release later, so that a cluster can change over member by member.
var spoken = Versions{Min: 1, Max: 1}

// Common returns the highest version that both speak.
func (v Versions) Common(other Versions) (version uint8, ok bool) {
	version = min(v.Max, other.Max)
	return version, version >= max(v.Min, other.Min)
}
