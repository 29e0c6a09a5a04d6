package cache

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// backlog is what could not be written to the index file: of each key the latest change. It is written with the next
// transaction that works. A crash before that leaves files without a record, which the next start takes in, and records
// without a file, which the next hit takes out.
type backlog map[string]change

// add keeps changes for later. Notes of use are let go: a minute later there are new ones.
func (l backlog) add(changes []change) {
	for _, c := range changes {
		if !bytes.Equal(c.bucket, usedBucket) || c.value == nil {
			l[string(c.bucket)+"/"+string(c.key)] = change{bucket: c.bucket, key: c.key, value: c.value}
		}
	}
}

// before returns the changes of the backlog and then those given, in key order because bbolt then touches each page once.
// Of two changes to one key the later one comes later. What only waits is left out.
func (l backlog) before(changes []change) []change {
	ordered := slices.AppendSeq(make([]change, 0, len(l)+len(changes)), maps.Values(l))
	ordered = append(ordered, changes...)
	ordered = slices.DeleteFunc(ordered, change.onlyWaits)
	slices.SortStableFunc(ordered, func(a, b change) int {
		return cmp.Or(bytes.Compare(a.key, b.key), bytes.Compare(a.bucket, b.bucket))
	})
	return ordered
}

// indexFailed logs the first of failures in a row to write the index file. They cost nothing as long as the process lives.
func (c *Cache) indexFailed(err error) {
	if !c.indexFailing.Swap(true) {
		c.log.Warn("index could not be written; content is served all the same, and writing is tried again every minute: look at the disk of the data directory", "error", err)
	}
}

// flushRecords writes what the index file lacks.
func (c *Cache) flushRecords() {
	err := c.records.flush()
	if err != nil {
		c.indexFailed(err)
		return
	}
	if c.indexFailing.Swap(false) {
		c.log.Info("index is written again")
	}
}
