package cache

import (
	"os"
	"sync"

	"mirror/internal/oci"
)

// rechecks are the readings of files that have changed since they were verified. Whoever wants the same content meanwhile
// waits for the one that runs.
type rechecks struct {
	mu      sync.Mutex
	running map[*entry]*recheck
}

// recheck is one of them.
type recheck struct {
	done chan struct{}
	err  error // after done
}

// once calls do, unless that is being done for the entry, and returns what it returned.
func (r *rechecks) once(e *entry, do func() error) error {
	r.mu.Lock()
	if running := r.running[e]; running != nil {
		r.mu.Unlock()
		<-running.done
		return running.err
	}
	mine := &recheck{done: make(chan struct{})}
	r.running[e] = mine
	r.mu.Unlock()
	mine.err = do()
	r.mu.Lock()
	delete(r.running, e)
	r.mu.Unlock()
	close(mine.done)
	return mine.err
}

// unaltered reports what is wrong with the open file of content, as far as can be told without reading it: a file of
// the right length that was not changed since it was verified is in order. One that was changed, or of which that is not
// known, is read before anything of it goes out, and once more if it was changed meanwhile: whoever waits for the reading of
// somebody else may have looked at the file after that had begun.
func (c *Cache) unaltered(d oci.Digest, e *entry, file *os.File) error {
	for {
		stamp, err := stampOfLength(file, e.size)
		if err != nil || stamp == e.stamp.Load() {
			return err
		}
		if err := c.rechecks.once(e, func() error { return c.recheck(victim{d, e}, file, stamp) }); err != nil {
			return err
		}
	}
}

// recheck reads a file that had the given stamp before, and notes that it is in order. Whoever changes it meanwhile gives it
// another stamp, so that it is read again.
func (c *Cache) recheck(v victim, file *os.File, stamp int64) error {
	c.metrics.rechecked.Inc()
	err := c.compareBytes(file, v, func(int) error { return c.ctx.Err() })
	switch {
	case c.ctx.Err() != nil:
		return ErrClosed
	case err == nil:
		c.stampAs(v, stamp)
	}
	return err
}

// stampAs notes that content was verified while its file had that stamp, for this run and the next.
func (c *Cache) stampAs(v victim, stamp int64) {
	if v.entry.stamp.Swap(stamp) == stamp {
		return
	}
	c.names.RLock() // nobody takes the content out of table and index meanwhile
	defer c.names.RUnlock()
	if v.entry.gone.Load() {
		return
	}
	if err := c.records.put(v.entry.record(v.digest)); err != nil {
		c.indexFailed(err)
	}
}
