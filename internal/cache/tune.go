package cache

import "time"

// parallel is how content is fetched over several connections at once. Tests make the sizes smaller.
type parallel struct {
	// least is from which length in bytes on it is worth while: below it, the front is there before a second connection is.
	least int64
	// first is the length of the first segments, before the rate is known; then one is segmentTime long, within the bounds.
	first, shortest, longest int64
	// begin is how many fetches run before anything has been measured.
	begin int
}

func usualParallel() parallel {
	return parallel{least: 32 << 20, first: 8 << 20, shortest: 4 << 20, longest: 64 << 20, begin: 1}
}

const (
	// segmentTime is how long a segment should keep its connection busy: long against the round trip that each request
	// costs, short against what a reader in the middle would wait for a connection.
	segmentTime = time.Second
	// tuneTime is how long a number of fetches is watched before it is compared with another.
	tuneTime = 250 * time.Millisecond
	// worthMore is by how much the rate must grow when the number of fetches doubles. Twice would be perfect; less than this
	// means that the link, the source or this machine has no more to give.
	worthMore = 1.25
	// tuneAgain is when more fetches are tried again after they did not help.
	tuneAgain = 10 * time.Second
)

// tuner finds how many fetches at once are worth while for one fill. It begins with one, doubles their number while that
// makes the content come faster, and goes back when it does not. It is guarded by the fill's lock.
type tuner struct {
	most   int
	target int
	// fewer and slower are the number of fetches before the last step, and the rate with it; fewer is 0 when no step is on trial.
	fewer  int
	slower float64
	rest   time.Time // no step before

	// The window that is being measured.
	running int
	since   time.Time
	bytes   int64
	rate    float64 // of the last window, in bytes per second; 0 before the first
}

func newTuner(most, begin int) tuner {
	most = max(1, most)
	return tuner{most: most, target: min(begin, most)}
}

// add counts n bytes that have come while so many fetches were running. It reports whether more fetches should run now.
func (u *tuner) add(n int64, running int, now time.Time) (more bool) {
	if running != u.running || u.since.IsZero() {
		u.running, u.since, u.bytes = running, now, 0
		return false
	}
	u.bytes += n
	elapsed := now.Sub(u.since)
	if elapsed < tuneTime {
		return false
	}
	u.rate = float64(u.bytes) / elapsed.Seconds()
	u.since, u.bytes = now, 0
	if running < u.target {
		return false
	}
	u.target = min(running, u.most) // more, when readers have got fetches of their own
	return u.step(now)
}

// step judges the number of fetches that has been measured, and decides on the next.
func (u *tuner) step(now time.Time) (more bool) {
	if u.fewer > 0 && u.rate < u.slower*worthMore {
		u.back(now)
		return false
	}
	u.fewer = 0
	if u.target >= u.most || now.Before(u.rest) {
		return false
	}
	u.fewer, u.slower = u.target, u.rate
	u.target = min(2*u.target, u.most)
	return true
}

// back returns to the number of fetches before the last step, or to half when none is on trial.
func (u *tuner) back(now time.Time) {
	u.target = max(1, u.target/2)
	if u.fewer > 0 {
		u.target = u.fewer
	}
	u.fewer, u.rest = 0, now.Add(tuneAgain)
}

// cap lets no more fetches run from now on than so many, and at least one: the source has said so.
func (u *tuner) cap(running int) {
	u.most = max(1, running)
	u.target, u.fewer = min(u.target, u.most), 0
}

// segment returns how long the next fetch should be.
func (u *tuner) segment(p parallel) int64 {
	if u.rate == 0 {
		return p.first
	}
	perFetch := u.rate / float64(max(1, u.running))
	return min(max(int64(perFetch*segmentTime.Seconds()), p.shortest), p.longest)
}
