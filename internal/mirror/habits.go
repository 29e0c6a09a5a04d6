package mirror

import (
	"slices"
	"sync"
	"time"

	"mirror/internal/oci"
)

const (
	// announceFor is how long after a client has got a manifest a request for one of its layers counts as its pull. Clients
	// ask within seconds; the rest is for slow ones.
	announceFor = 5 * time.Minute
	// maxHabits bounds the repositories about which anything is remembered, and the others what is remembered of each: some
	// ten megabytes in all, at worst. The longest indexes in use have some twenty children.
	maxHabits    = 2048
	maxAnnounced = 8
	maxAsked     = 4
	maxChildren  = 64
)

// habits remembers, in memory and for a while, what clients have got of each repository, because that says what they will
// ask for next. It may forget early.
type habits struct {
	mu    sync.Mutex
	known map[oci.Repository]*habit
}

// habit is what clients do with one repository.
type habit struct {
	seen      time.Time
	manifests []announcement // newest last
	indexes   []announcement
	// children says for which platform the manifests are that the indexes name.
	children map[oci.Digest]oci.Platform
	// asked are the platforms whose manifests clients took, newest last.
	asked []oci.Platform
}

// announcement is a manifest that a client has got.
type announcement struct {
	digest oci.Digest
	at     time.Time
	used   bool // what it announces was looked at; nothing is done twice
}

// gotManifest notes that a client has got a manifest that is no index, and for which platform that was.
func (hs *habits) gotManifest(repo oci.Repository, d oci.Digest) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.ofLocked(repo)
	announce(&h.manifests, d, h.seen)
	if platform, ok := h.children[d]; ok && !slices.Contains(h.asked, platform) {
		h.asked = append(h.asked[max(0, len(h.asked)-maxAsked+1):], platform)
	}
}

// gotIndex notes that a client has got an index, and reports whether that is news.
func (hs *habits) gotIndex(repo oci.Repository, d oci.Digest) (news bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.ofLocked(repo)
	return announce(&h.indexes, d, h.seen)
}

// learn notes what an index names, and returns the manifests for platforms that clients of the repository took before.
func (hs *habits) learn(repo oci.Repository, platforms map[oci.Digest]oci.Platform) (likely []oci.Digest) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.ofLocked(repo)
	if h.children == nil || len(h.children)+len(platforms) > maxChildren {
		h.children = make(map[oci.Digest]oci.Platform)
	}
	for d, platform := range platforms {
		if len(h.children) < maxChildren {
			h.children[d] = platform
		}
		if slices.Contains(h.asked, platform) {
			likely = append(likely, d)
		}
	}
	return likely
}

// announced returns the manifests of a repository that clients have got lately and that were not used yet, the last first.
func (hs *habits) announced(repo oci.Repository) []oci.Digest {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.known[repo]
	if h == nil {
		return nil
	}
	var digests []oci.Digest
	for _, a := range slices.Backward(h.manifests) {
		if !a.used && time.Since(a.at) < announceFor {
			digests = append(digests, a.digest)
		}
	}
	return digests
}

// use takes an announcement, and reports whether nobody else did.
func (hs *habits) use(repo oci.Repository, d oci.Digest) bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.known[repo]
	if h == nil {
		return false
	}
	at := slices.IndexFunc(h.manifests, func(a announcement) bool { return a.digest == d && !a.used })
	if at >= 0 {
		h.manifests[at].used = true
	}
	return at >= 0
}

// ofLocked returns what is known of a repository, for more to be added.
func (hs *habits) ofLocked(repo oci.Repository) *habit {
	h := hs.known[repo]
	if h == nil {
		hs.makeRoomLocked()
		h = new(habit)
		hs.known[repo] = h
	}
	h.seen = time.Now()
	return h
}

// makeRoomLocked forgets what is old when there is too much and, when that is not enough, half of the rest, whichever.
func (hs *habits) makeRoomLocked() {
	if hs.known == nil {
		hs.known = make(map[oci.Repository]*habit)
	}
	if len(hs.known) < maxHabits {
		return
	}
	for repo, h := range hs.known {
		if time.Since(h.seen) > announceFor {
			delete(hs.known, repo)
		}
	}
	for repo := range hs.known {
		if len(hs.known) <= maxHabits/2 {
			return
		}
		delete(hs.known, repo)
	}
}

// announce adds an announcement to a list and reports whether it is new. One that was used counts as used until its time
// is over, however often clients come meanwhile.
func announce(list *[]announcement, d oci.Digest, now time.Time) (news bool) {
	at := slices.IndexFunc(*list, func(a announcement) bool { return a.digest == d })
	if at >= 0 && now.Sub((*list)[at].at) < announceFor {
		if !(*list)[at].used {
			(*list)[at].at = now
		}
		return false
	}
	if at >= 0 {
		*list = slices.Delete(*list, at, at+1)
	}
	if len(*list) == maxAnnounced {
		*list = slices.Delete(*list, 0, 1)
	}
	*list = append(*list, announcement{digest: d, at: now})
	return true
}
