package drain

import (
	"math"
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are 1/16 of their value wide, so a quantile is exact to 6 percent. The zero
// value is empty.
type Histogram struct {
	counts [64 * fine]int64
	total  int64
}

const fine = 16 // buckets for each doubling

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

func bucketOf(v uint64) int {
	if v < fine {
		return int(v)
	}
	shift := bits.Len64(v) - 5 // what is left has five bits, the first of which is set
	return shift*fine + int(v>>shift)
}

// upper is the largest value of a bucket.
func upper(bucket int) uint64 {
	if bucket < 2*fine {
		return uint64(bucket)
	}
	shift := bucket/fine - 1
	return uint64(bucket-shift*fine+1)<<shift - 1
}

// Quantile returns the duration that q of all are not above, q from 0 to 1; zero when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := int64(math.Ceil(q * float64(h.total)))
	for b, n := range h.counts {
		if want -= n; n > 0 && want <= 0 {
			return time.Duration(upper(b))
		}
	}
	return 0
}
