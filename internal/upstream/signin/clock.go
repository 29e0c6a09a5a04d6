package signin

import (
	"sync/atomic"
	"time"
)

// leastSkew is the smallest difference of clocks that explains a refusal. Services tolerate some minutes, Google's least.
const leastSkew = 30 * time.Second

// clock is this machine's clock, corrected by what a service has told. The zero value is not corrected.
type clock struct{ ahead atomic.Int64 }

// now returns the service's time of day, as far as it is known.
func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// learn takes over a service's time, and reports whether it differs by so much from what was believed that trying again
// makes sense.
func (c *clock) learn(told time.Time) bool {
	if told.IsZero() {
		return false
	}
	off := told.Sub(c.now())
	if off.Abs() < leastSkew {
		return false
	}
	c.ahead.Add(int64(off))
	return true
}

// lifeUntil returns how long after its answer something ends, by the service's clock when it told the time.
func (a answer) lifeUntil(end time.Time) time.Duration {
	if a.date.IsZero() {
		return time.Until(end)
	}
	return end.Sub(a.date)
}
