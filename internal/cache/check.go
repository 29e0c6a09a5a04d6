package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"mirror/internal/oci"
)

// Check verifies the invariants of the package comment while nothing is being filled or removed, and returns all
// violations. It reads every complete blob against its digest, so it costs what reading the whole disk tier costs. After
// Open it waits until the search for content without a record is over.
func (c *Cache) Check(ctx context.Context) error {
	select {
	case <-c.looked:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var problems []error
	contents := make(map[oci.Digest]int64)
	c.index.each(func(d oci.Digest, e *entry) { contents[d] = e.size })
	_, err := c.Verify(ctx, false, func(d oci.Digest, err error) {
		problems = append(problems, fmt.Errorf("check %s: %w", d, err))
	})
	if err != nil {
		return err
	}
	problems = append(problems, c.checkFiles(contents), c.checkPartial(), c.checkFills(), c.checkRecords(contents), c.checkRoom(contents), c.checkPins(contents), c.checkShelf())
	return errors.Join(problems...)
}

// checkFiles looks for files that the table does not know.
func (c *Cache) checkFiles(contents map[oci.Digest]int64) error {
	leftovers := c.leftovers.all()
	return c.disk.walk(func(d oci.Digest) error {
		_, known := contents[d]
		if _, left := leftovers[blobPath(c.disk.dir, d)]; !known && !left {
			return fmt.Errorf("check files: %s is on the disk, and not in the index", d)
		}
		return nil
	})
}

// checkPartial looks for partial files that belong to no fill and do not rest, and for journals without a partial file.
func (c *Cache) checkPartial() error {
	names, err := os.ReadDir(filepath.Join(c.disk.dir, partialDir))
	if err != nil {
		return err
	}
	leftovers := c.leftovers.all()
	files, journals := make(map[string]bool), []string(nil)
	for _, n := range names {
		_, left := leftovers[filepath.Join(c.disk.dir, partialDir, n.Name())]
		switch {
		case left:
		case isJournal(n.Name()):
			journals = append(journals, n.Name())
		default:
			files[n.Name()] = true
		}
	}
	if c.Fills() > 0 {
		return nil
	}
	if _, parts, _ := c.partial(); int64(len(files)) != parts {
		return fmt.Errorf("check partial files: %d are on the disk, %d rest", len(files), parts)
	}
	for _, j := range journals {
		if base, _, _ := strings.Cut(j, journalSuffix); !files[base] {
			return fmt.Errorf("check partial files: %s has no partial file", j)
		}
	}
	return nil
}

// checkFills looks at fills that wait for pieces to be asked for, and at any others.
func (c *Cache) checkFills() error {
	var problems []error
	c.index.eachFill(func(f *fill) {
		if err := f.check(); err != nil {
			problems = append(problems, fmt.Errorf("check fill of %s: %w", f.request.Digest, err))
		}
	})
	return errors.Join(problems...)
}

// check compares what a running fill has with what it holds room for, and its fetches with each other.
func (f *fill) check() error {
	f.booking.Lock()
	defer f.booking.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.part
	switch {
	case p == nil || f.state != filling:
		return nil
	case p.present.total() > p.reserved:
		return fmt.Errorf("%d bytes are there, and room for %d", p.present.total(), p.reserved)
	case p.present.end() > f.endLocked():
		return fmt.Errorf("bytes up to %d are there, of %d", p.present.end(), p.size)
	}
	for i, t := range f.fetches {
		for _, other := range f.fetches[:i] {
			if t.left() > 0 && t.pos < other.limit && other.pos < t.limit {
				return fmt.Errorf("two fetches bring [%d, %d) and [%d, %d)", t.pos, t.limit, other.pos, other.limit)
			}
		}
	}
	return nil
}

// checkRecords compares the index file with the table, after what could not be written before.
func (c *Cache) checkRecords(contents map[oci.Digest]int64) error {
	if err := c.records.flush(); err != nil {
		return err
	}
	var problems []error
	count := 0
	err := c.records.load(func(rec record) {
		count++
		if size, ok := contents[rec.digest]; !ok || size != rec.size {
			problems = append(problems, fmt.Errorf("check records: %s of %d bytes has no equal in the index", rec.digest, rec.size))
		}
	})
	if count < len(contents) {
		problems = append(problems, fmt.Errorf("check records: %d records for %d blobs", count, len(contents)))
	}
	return errors.Join(append(problems, err)...)
}

// checkRoom compares what is accounted for with what is there.
func (c *Cache) checkRoom(contents map[oci.Digest]int64) error {
	var sum int64
	for _, size := range contents {
		sum += size
	}
	for _, size := range c.leftovers.all() {
		sum += size
	}
	_, _, partial := c.partial()
	c.names.RLock()
	sum += c.quarantine.bytes
	c.names.RUnlock()
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	if c.Fills() == 0 && c.room.taken != sum+partial {
		return fmt.Errorf("check room: %d bytes are accounted for, %d are there", c.room.taken, sum+partial)
	}
	if c.room.taken > c.room.limit {
		return fmt.Errorf("check room: %d bytes exceed the limit of %d", c.room.taken, c.room.limit)
	}
	return nil
}

// checkPins compares what is pinned with the file of pins, and counts the bytes.
func (c *Cache) checkPins(contents map[oci.Digest]int64) error {
	c.pinning.Lock()
	defer c.pinning.Unlock()
	pins := c.index.pinned()
	text, err := c.disk.readPins()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("check pins: %w", err)
	}
	if written, damaged := parsePins(text); damaged || !maps.Equal(written, pins) {
		return fmt.Errorf("check pins: %d are in the table, and not the same %d in the file", len(pins), len(written))
	}
	var sum int64
	for d := range pins {
		sum += contents[d]
	}
	if counted := c.index.pinnedBytes.Load(); counted != sum {
		return fmt.Errorf("check pins: %d bytes are counted, %d are there", counted, sum)
	}
	return nil
}

// checkShelf looks for open files of content that is gone.
func (c *Cache) checkShelf() error {
	c.shelf.mu.Lock()
	defer c.shelf.mu.Unlock()
	if len(c.shelf.files) > shelfFiles {
		return fmt.Errorf("check shelf: %d files are kept open, at most %d should be", len(c.shelf.files), shelfFiles)
	}
	for _, f := range c.shelf.files {
		if f.entry.gone.Load() {
			return errors.New("check shelf: a file of content that is gone is kept open")
		}
	}
	return nil
}
