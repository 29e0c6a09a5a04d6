package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"mirror/internal/oci"
)

// Check verifies the invariants of the package comment while nothing is being filled or removed, and returns all
// violations. It reads every complete blob against its digest, so it costs what reading the whole disk tier costs.
func (c *Cache) Check(ctx context.Context) error {
	var problems []error
	contents := make(map[oci.Digest]int64)
	c.index.each(func(d oci.Digest, e *entry) { contents[d] = e.size })
	for d, size := range contents {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.checkContent(d, size); err != nil {
			problems = append(problems, fmt.Errorf("check %s: %w", d, err))
		}
	}
	problems = append(problems, c.checkFiles(contents), c.checkRecords(contents), c.checkRoom(contents))
	return errors.Join(problems...)
}

// checkContent compares a file with its digest.
func (c *Cache) checkContent(d oci.Digest, size int64) error {
	file, err := os.Open(blobPath(c.disk.dir, d))
	if err != nil {
		return err
	}
	defer file.Close()
	h := d.Hash()
	n, err := io.Copy(h, file)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("file has %d bytes, index says %d", n, size)
	}
	if !d.Matches(h) {
		return wrongDigest(d)
	}
	return nil
}

// checkFiles looks for files that the table does not know.
func (c *Cache) checkFiles(contents map[oci.Digest]int64) error {
	return c.disk.walk(func(d oci.Digest, size int64) error {
		if _, ok := contents[d]; !ok {
			return fmt.Errorf("check files: %s is on the disk, and not in the index", d)
		}
		return nil
	})
}

// checkRecords compares the index file with the table.
func (c *Cache) checkRecords(contents map[oci.Digest]int64) error {
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
	fills, _, partial := c.partial()
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	if fills == 0 && c.room.taken != sum+partial {
		return fmt.Errorf("check room: %d bytes are accounted for, %d are there", c.room.taken, sum+partial)
	}
	if c.room.taken > c.room.limit {
		return fmt.Errorf("check room: %d bytes exceed the limit of %d", c.room.taken, c.room.limit)
	}
	return nil
}
