package cache

import (
	"iter"
	"math"
)

// The numbers of the policy. They were chosen by measurement: docs/decisions/0009-eviction.md has the table, and
// bench/eviction makes it again.
const (
	// halfLife is after how many seconds a use counts half.
	halfLife = 3 * 24 * 3600
	// burst is how many seconds after a use others count as the same one: a rollout to a hundred nodes is one interest in
	// an image. It also spares all but the first hit of a burst the store.
	burst = 60
	// small is up to which size in bytes content counts as small: manifests and configs, rarely more.
	small = 64 << 10
	// smallLead is how many half-lives longer small content is kept than large. It costs next to no room, and the manifest
	// and the config of an image outlive its layers.
	smallLead = 10
	// newcomerShare is the part of the limit, as a divisor, that content used only once may keep against all other.
	newcomerShare = 10
	// fresh is for how many seconds newcomers have the larger freshShare: a new image that one node has pulled is still
	// there when the others come some minutes later, though it is much larger than a tenth.
	fresh      = 20 * 60
	freshShare = 3
)

// Use is when content was last used and how much it was used before, in one word so that a hit can store it atomically:
// seconds since 1970 above heatBits, below them the heat in units of 1/heatUnit. Heat is the sum of all uses, each counting
// half as much for every half-life that it was old at the last one. It saturates, so that what was popular for months is
// forgotten as fast as what was popular for days.
type Use uint64

const (
	heatBits = 16
	heatUnit = 1 << 8
	maxHeat  = 1<<heatBits - 1
)

// FirstUse is the use of content that is new at a time in seconds since 1970.
func FirstUse(now int64) Use { return pack(now, heatUnit) }

func pack(at int64, heat uint64) Use { return Use(uint64(max(0, at))<<heatBits | heat) }

// At is the time of the last use that counted, in seconds since 1970.
func (u Use) At() int64 { return int64(u >> heatBits) }

// Again is u after another use, or u itself within a burst. A use in the future was noted before the clock was set back:
// the clock of now is believed.
func (u Use) Again(now int64) Use {
	age := now - u.At()
	if 0 <= age && age < burst {
		return u
	}
	heat := heatUnit + math.Ceil(float64(u&maxHeat)*math.Exp2(-float64(max(0, age))/halfLife))
	return pack(now, min(uint64(heat), maxHeat))
}

// newcomer reports whether the content was used only once. What was used again stays above one use, because Again rounds
// up.
func (u Use) newcomer() bool { return u&maxHeat <= heatUnit }

// worth orders contents: the lower, the sooner evicted. It is the logarithm, to base two, of the heat and of its decay. All
// decay alike, so the order does not depend on when it is looked at.
func (u Use) worth(size int64) float64 {
	heat := float64(max(1, u&maxHeat)) / heatUnit
	worth := math.Log2(heat) + float64(u.At())/halfLife
	if size <= small {
		worth += smallLead
	}
	return worth
}

// Candidate is content that may be evicted. Key is what the caller knows it by.
type Candidate[K any] struct {
	Key  K
	Size int64 // bytes
	Use  Use
}

// Coldest chooses contents to evict from a cache of limit bytes at a time in seconds since 1970, coldest first: together
// they have at least need bytes, or they are all there are. Newcomers go first while they have more than their share, so
// that a scan displaces only what it brought itself; below their share they stay, so that what is new has time to be asked
// for again. It costs memory for what it chooses, not for what there is.
func Coldest[K any](all iter.Seq[Candidate[K]], need, limit, now int64) []Candidate[K] {
	newcomers, regulars := newSelection[K](need), newSelection[K](need)
	var newBytes int64
	for c := range all {
		if c.Use.newcomer() {
			newBytes += c.Size
			newcomers.offer(c)
		} else {
			regulars.offer(c)
		}
	}
	newcomers.trim()
	regulars.trim()
	var chosen []Candidate[K]
	for need > 0 && len(newcomers.kept)+len(regulars.kept) > 0 {
		from := regulars
		if len(regulars.kept) == 0 || len(newcomers.kept) > 0 && newBytes > newcomers.kept[0].Use.share(limit, now) {
			from = newcomers
			newBytes -= from.kept[0].Size
		}
		coldest := from.kept[0].Candidate
		from.kept = from.kept[1:]
		chosen = append(chosen, coldest)
		need -= coldest.Size
	}
	return chosen
}

// share is how many bytes newcomers may keep against all other content when the oldest of them has this use.
func (u Use) share(limit, now int64) int64 {
	if now-u.At() < fresh {
		return limit / freshShare
	}
	return limit / newcomerShare
}
