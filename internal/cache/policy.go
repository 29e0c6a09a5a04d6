package cache

import (
	"cmp"
	"math"
	"slices"
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

// Coldest chooses contents to evict from a cache of limit bytes: together they have at least need bytes, or they are all
// there are. Newcomers go first while they have more than their share, so that a scan displaces only what it brought
// itself; below their share they stay, so that what is new has time to be asked for again.
func Coldest[K any](all []Candidate[K], need, limit int64) []Candidate[K] {
	newcomers, regulars, surplus := rank(all)
	surplus -= limit / newcomerShare
	var chosen []Candidate[K]
	for need > 0 && len(newcomers)+len(regulars) > 0 {
		from := &regulars
		if len(regulars) == 0 || surplus > 0 && len(newcomers) > 0 {
			from = &newcomers
			surplus -= all[newcomers[0].index].Size
		}
		coldest := all[(*from)[0].index]
		*from = (*from)[1:]
		chosen = append(chosen, coldest)
		need -= coldest.Size
	}
	return chosen
}

// place is a candidate's place in the order, by its index.
type place struct {
	index int
	worth float64
}

// rank sorts newcomers and all others by worth, the least first, and counts the bytes of newcomers. Both share one slice,
// filled from its two ends, because with a million blobs each copy counts.
func rank[K any](all []Candidate[K]) (newcomers, regulars []place, newBytes int64) {
	places := make([]place, len(all))
	n, m := 0, len(all)
	for i, c := range all {
		p := place{i, c.Use.worth(c.Size)}
		if c.Use.newcomer() {
			places[n] = p
			n++
			newBytes += c.Size
		} else {
			m--
			places[m] = p
		}
	}
	newcomers, regulars = places[:n], places[n:]
	byWorth := func(a, b place) int { return cmp.Compare(a.worth, b.worth) }
	slices.SortFunc(newcomers, byWorth)
	slices.SortFunc(regulars, byWorth)
	return newcomers, regulars, newBytes
}
