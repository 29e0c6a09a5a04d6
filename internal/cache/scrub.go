package cache

import (
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

// scrubPeriod is the least time from the beginning of one pass of the scrub to that of the next.
const scrubPeriod = 24 * time.Hour

// scrub compares everything that is stored with its digests, again and again, until Close. It holds no lock while it
// reads, and what it reads does not count as used.
func (c *Cache) scrub(limit *rate.Limiter) {
	<-c.looked
	for {
		begin := time.Now()
		c.scrubAll(limit)
		if c.ctx.Err() != nil {
			return
		}
		c.metrics.scrubs.Observe(time.Since(begin).Seconds())
		select {
		case <-time.After(time.Until(begin.Add(scrubPeriod))):
		case <-c.ctx.Done():
			return
		}
	}
}

// scrubAll is one pass. Each begins at another place, so that a mirror which is restarted before a pass has ended gets
// around to everything nevertheless.
func (c *Cache) scrubAll(limit *rate.Limiter) {
	first := rand.IntN(shardCount)
	for i := range shardCount {
		for _, v := range c.index.shards[(first+i)%shardCount].contents() {
			c.scrubContent(v, limit)
			if c.ctx.Err() != nil {
				return
			}
		}
	}
}

// scrubContent takes content out of service if it is damaged. What cannot be read now, for a reason that is not in the
// file, has its turn in the next pass.
func (c *Cache) scrubContent(v victim, limit *rate.Limiter) {
	stamp, err := c.examine(v, func(n int) error {
		if err := limit.WaitN(c.ctx, n); err != nil {
			return err
		}
		c.metrics.scrubbed.Add(float64(n))
		return nil
	})
	switch {
	case err == nil && !c.memory.takes(v.entry.size): // what it takes is verified by each hit on the disk
		c.stampAs(v, stamp)
	case err != nil && c.ctx.Err() == nil && !isExhaustion(err):
		c.heal(v.digest, v.entry, err)
	}
}
