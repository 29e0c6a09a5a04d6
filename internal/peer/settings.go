package peer

import (
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// Settings are what no operator has a reason to change, and tests have.
type Settings struct {
	// OwnAfter is how long a node that has started owns nothing (Young). Zero lets it own at once.
	OwnAfter time.Duration
	// Settle is how long good news must last before the cluster is told: a reason for a refusal that is gone, another room
	// class. Bad news is told at once.
	Settle time.Duration
	// DeadFor is how long a member that was found dead is passed over.
	DeadFor time.Duration
	// Rejoin is the longest time between two looks at the seeds, give or take a quarter.
	Rejoin time.Duration
	// Resolver looks up the names among the seeds.
	Resolver resolver

	// Disowned makes this node believe that it may own nothing, whatever the others believe: a stale view, for tests.
	Disowned bool

	tune func(*memberlist.Config) // speeds up tests; nil otherwise
}

// DefaultSettings returns the settings of a node in use. The first and third figure are those of the simulation
// behind the design; a failed lookup or a partition is noticed within half a minute.
func DefaultSettings() Settings {
	return Settings{
		OwnAfter: 60 * time.Second,
		Settle:   30 * time.Second,
		DeadFor:  10 * time.Second,
		Rejoin:   30 * time.Second,
		Resolver: net.DefaultResolver,
	}
}
