package catalog

import (
	"errors"
	"fmt"
	"time"
)

const (
	// flushInterval is how long a touch waits for the disk when nothing else is written, and how soon a failed commit is
	// tried again when nothing else changes. Losing half a minute of touches costs a few revalidations.
	flushInterval = 30 * time.Second
	// outageLogInterval is how often a failure that lasts is logged.
	outageLogInterval = time.Minute
	// replaceInterval is how long a new file must have worked before it is set aside, too. Otherwise a disk that damages
	// all that is written to it would fill with such files.
	replaceInterval = time.Hour
)

// commitAll is the committer: the only goroutine that writes the file, or replaces it. It ends after the commit that
// follows the queue's end.
func (c *Catalog) commitAll() {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.queue.wake:
		case <-ticker.C:
		case <-c.queue.stop:
			c.lastCommit <- c.commit()
			return
		}
		// Those who wait were told; an error for nobody was logged.
		_ = c.commit()
	}
}

// stop ends the committer and closes the file.
func (c *Catalog) stop() error {
	c.queue.close()
	return errors.Join(<-c.lastCommit, c.store.Load().close())
}

// commit writes what is unsaved and answers those who wait for it.
func (c *Catalog) commit() error {
	waiters := c.queue.takeWaiters()
	err := c.save()
	if errors.Is(err, errDamaged) {
		err = c.startOver(err)
	}
	for _, waiter := range waiters {
		waiter <- err
	}
	c.report(err, len(waiters) > 0)
	return err
}

// startOver is save into a new file.
func (c *Catalog) startOver(cause error) error {
	if time.Since(c.replaced) < replaceInterval {
		return cause
	}
	if err := c.replaceStore(cause); err != nil {
		return fmt.Errorf("replace catalog file: %w", err)
	}
	return c.save()
}

// save writes what is unsaved. What it cannot write stays unsaved.
func (c *Catalog) save() error {
	b := c.collect()
	if len(b.operations) == 0 {
		return nil
	}
	start := time.Now()
	err := c.store.Load().write(b.operations)
	c.metrics.committed(err, time.Since(start))
	if err != nil {
		c.giveBack(b)
		return err
	}
	c.garbage = nil
	c.lists.saved(b.lists)
	return nil
}

// batch is what one commit writes, and where it was taken from.
type batch struct {
	operations   []operation
	repositories map[*repository]changes
	lists        []takenList
}

func (c *Catalog) collect() batch {
	b := batch{repositories: make(map[*repository]changes)}
	// Garbage goes first, so that it does not remove what has been learnt again under the same key.
	b.operations = append(b.operations, c.garbage...)
	for r := range c.queue.takeRepositories() {
		taken, operations := r.takeUnsaved(c.mediaTypes)
		b.repositories[r] = taken
		b.operations = append(b.operations, operations...)
	}
	lists, operations := c.lists.takeUnsaved()
	b.lists = lists
	b.operations = append(b.operations, operations...)
	return b
}

// giveBack notes the batch as unsaved again.
func (c *Catalog) giveBack(b batch) {
	for r, taken := range b.repositories {
		r.giveBack(taken)
		c.queue.giveBack(r)
	}
	c.lists.giveBack(b.lists)
}

// outage remembers what was logged about commits that fail. Only the committer uses it.
type outage struct {
	logged  time.Time // zero when the last commit succeeded
	dropped int       // failures since then that were not logged
}

// report logs the failures that nobody was told of, the first one and then one a minute, and the end of them.
func (c *Catalog) report(err error, told bool) {
	switch {
	case err == nil && !c.outage.logged.IsZero():
		c.log.Info("catalog is written again")
		c.outage = outage{}
	case err == nil || told:
	case time.Since(c.outage.logged) < outageLogInterval:
		c.outage.dropped++
	default:
		c.log.Error(fmt.Sprintf("catalog cannot be written and is kept in memory; %d lines like this were left out", c.outage.dropped), "error", err)
		c.outage = outage{logged: time.Now()}
	}
}
