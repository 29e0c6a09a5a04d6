package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"mirror/internal/oci"
)

// errAltered: a file does not have the bytes that were verified when it was stored.
var errAltered = errors.New("stored content is not what its digest names")

// Verified is what Verify has looked at.
type Verified struct {
	Blobs   int   // all that are stored
	Bytes   int64 // that they should have together
	Damaged int   // blobs whose file is missing, short, long or altered
}

// Verify compares all complete content with its digests, as fast as the disk reads, and calls report for each blob whose
// file is missing or damaged. With repair such content is taken out of service too: what there is of it goes into
// quarantine, and the next request fetches it again. After Open it waits until the search for content without a record is
// over. An error means that not everything could be read, for a reason that is not in the files.
func (c *Cache) Verify(ctx context.Context, repair bool, report func(oci.Digest, error)) (Verified, error) {
	var seen Verified
	select {
	case <-c.looked:
	case <-ctx.Done():
		return seen, context.Cause(ctx)
	}
	for i := range c.index.shards {
		for _, v := range c.index.shards[i].contents() {
			damage, err := c.verify(ctx, v)
			if err != nil {
				return seen, err
			}
			seen.Blobs++
			seen.Bytes += v.entry.size
			if damage == nil {
				continue
			}
			seen.Damaged++
			report(v.digest, damage)
			if repair {
				c.heal(v.digest, v.entry, damage)
			}
		}
	}
	return seen, nil
}

// verify tells what is wrong with content; err says why that could not be found out.
func (c *Cache) verify(ctx context.Context, v victim) (damage, err error) {
	_, damage = c.examine(v, func(int) error { return ctx.Err() })
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case isExhaustion(damage):
		return nil, diskError("verify "+v.digest.String(), damage)
	}
	return damage, nil
}

// examine reads the file of content and compares it with the digest; stamp is what the file had before. Content that is
// removed meanwhile is in order. pace is asked before n bytes are read, and ends the reading by an error.
func (c *Cache) examine(v victim, pace func(n int) error) (stamp int64, err error) {
	stamp, err = c.compare(v, pace)
	if v.entry.gone.Load() {
		return 0, nil
	}
	return stamp, err
}

func (c *Cache) compare(v victim, pace func(n int) error) (stamp int64, err error) {
	file, err := c.disk.open(v.digest)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	stamp, err = stampOfLength(file, v.entry.size)
	if err != nil {
		return 0, err
	}
	return stamp, c.compareBytes(file, v, pace)
}

// stampOfLength returns the stamp of an open file, which must have that length.
func stampOfLength(file *os.File, size int64) (int64, error) {
	length, stamp, err := lengthAndStamp(file)
	if err == nil && length != size {
		err = fmt.Errorf("file has %d bytes, want %d", length, size)
	}
	return stamp, err
}

// compareBytes hashes a file of the right length. Content that nobody has asked for in a day leaves the page cache again,
// so that reading everything does not drive out what is read often.
func (c *Cache) compareBytes(file *os.File, v victim, pace func(n int) error) error {
	h := v.digest.Hash()
	buf := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buf)
	for off := int64(0); off < v.entry.size && !v.entry.gone.Load(); {
		b := (*buf)[:min(int64(len(*buf)), v.entry.size-off)]
		if err := pace(len(b)); err != nil {
			return err
		}
		if err := c.disk.readAt(file, b, off); err != nil {
			return err
		}
		_, _ = h.Write(b) // a hash never returns an error
		off += int64(len(b))
	}
	if time.Since(time.Unix(Use(v.entry.use.Load()).At(), 0)) > scrubPeriod {
		forgetPages(file)
	}
	if !v.digest.Matches(h) {
		return errAltered
	}
	return nil
}
