package cache_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mirror/internal/cache"
)

// policyDay is a day in seconds.
const policyDay = 24 * 3600

// used returns the use of content at these times, in seconds since 1970.
func used(first int64, again ...int64) cache.Use {
	u := cache.FirstUse(first)
	for _, at := range again {
		u = u.Again(at)
	}
	return u
}

// order is the order in which a cache of limit bytes gives contents up at a time, by key.
func order(limit, now int64, all ...cache.Candidate[string]) []string {
	var keys []string
	for _, c := range cache.Coldest(slices.Values(all), 1<<62, limit, now) {
		keys = append(keys, c.Key)
	}
	return keys
}

func TestColdest(t *testing.T) {
	const large = 1 << 20
	content := func(key string, size int64, u cache.Use) cache.Candidate[string] {
		return cache.Candidate[string]{Key: key, Size: size, Use: u}
	}
	const later = 100 * policyDay
	at := func(now int64, name string, limit int64, want []string, all ...cache.Candidate[string]) {
		t.Helper()
		if got := order(limit, now, all...); !slices.Equal(got, want) {
			t.Errorf("%s: evicted in the order %v, want %v", name, got, want)
		}
	}
	f := func(name string, limit int64, want []string, all ...cache.Candidate[string]) {
		t.Helper()
		at(later, name, limit, want, all...)
	}
	f("of newcomers the oldest goes first", large, []string{"old", "new"},
		content("new", large, used(2000)), content("old", large, used(1000)))
	f("a use weighs more than a newer first use", large, []string{"scanned", "daily"},
		content("daily", large, used(0, policyDay)), content("scanned", large, used(policyDay+7200)))
	f("one burst is one use", large, []string{"burst", "daily"},
		content("burst", large, used(policyDay, policyDay+1, policyDay+2, policyDay+59)), content("daily", large, used(0, policyDay)))
	f("among what is used again, many uses win", large, []string{"twice", "often"},
		content("often", large, used(0, 1000, 2000, 3000, 4000)), content("twice", large, used(0, 5000)))
	f("many uses of long ago are forgotten", large, []string{"often", "twice"},
		content("often", large, used(0, 1000, 2000, 3000, 4000)), content("twice", large, used(20*policyDay, 21*policyDay)))
	f("a manifest outlives its layers", large, []string{"layer", "manifest"},
		content("manifest", 2000, used(1000)), content("layer", large, used(1000)))
	f("newcomers keep a tenth", 100*large, []string{"twice", "newcomer"},
		content("newcomer", large, used(9000)), content("twice", large, used(0, 5000)))
	image := []cache.Candidate[string]{
		content("lower layer", 2*large, used(9000)), content("upper layer", large, used(9100)), content("twice", large, used(0, 5000)),
	}
	at(9100+300, "a new image keeps a third for some minutes", 10*large, []string{"twice", "lower layer", "upper layer"}, image...)
	at(9100+3600, "and a tenth after that", 10*large, []string{"lower layer", "twice", "upper layer"}, image...)
	at(9100+300, "and never more than a third", 8*large, []string{"lower layer", "twice", "upper layer"}, image...)
}

// TestColdestOfMany: what is chosen from more than is ever kept in mind at once is what sorting everything would choose.
func TestColdestOfMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		all := make([]cache.Candidate[int], 10_000)
		for i := range all {
			first := random.Int64N(1 << 33)
			all[i] = cache.Candidate[int]{Key: i, Size: random.Int64N(1 << 20), Use: used(first, first+policyDay)}
		}
		const limit = 1 << 33
		choose := func(need int64) []cache.Candidate[int] { return cache.Coldest(slices.Values(all), need, limit, 1<<33) }
		sorted, need := choose(1<<62), rapid.Int64Range(1, 1<<33).Draw(t, "need")
		if chosen := choose(need); len(sorted) != len(all) || !slices.Equal(chosen, sorted[:len(chosen)]) {
			t.Errorf("the %d chosen are not the first of %d in the order of all", len(chosen), len(sorted))
		}
	})
}

// TestColdestProperties: whatever is there, enough is chosen and no more than that, and nothing twice.
func TestColdestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]cache.Candidate[int], rapid.IntRange(0, 50).Draw(t, "contents"))
		var sum int64
		for i := range all {
			times := rapid.SliceOfN(rapid.Int64Range(0, 1<<33), 1, 5).Draw(t, "uses")
			size := rapid.Int64Range(0, 1<<20).Draw(t, "size")
			all[i] = cache.Candidate[int]{Key: i, Size: size, Use: used(times[0], times[1:]...)}
			sum += size
		}
		need := rapid.Int64Range(0, 1<<25).Draw(t, "need")
		chosen := cache.Coldest(slices.Values(all), need, rapid.Int64Range(0, 1<<25).Draw(t, "limit"), 1<<33)
		checkChoice(t, chosen, need, sum)
	})
}

func checkChoice(t *rapid.T, chosen []cache.Candidate[int], need, sum int64) {
	seen := make(map[int]bool)
	var size, last int64
	for _, c := range chosen {
		if seen[c.Key] {
			t.Errorf("%d is chosen twice", c.Key)
		}
		seen[c.Key] = true
		size, last = size+c.Size, c.Size
	}
	if size < min(need, sum) {
		t.Errorf("%d bytes are chosen, want %d", size, min(need, sum))
	}
	if len(chosen) > 0 && size-last >= need {
		t.Errorf("%d bytes are chosen, of which the last %d are too much for %d", size, last, need)
	}
}

// TestUse: the time of use follows the clock, also when it is set back, and nothing overflows.
func TestUse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := cache.FirstUse(rapid.Int64Range(0, 1<<33).Draw(t, "first"))
		for _, now := range rapid.SliceOf(rapid.Int64Range(0, 1<<33)).Draw(t, "uses") {
			u = u.Again(now)
			if late := now - u.At(); late < 0 || late >= 60 {
				t.Fatalf("a use at %d is noted as one at %d", now, u.At())
			}
		}
	})
}
