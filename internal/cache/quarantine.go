package cache

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"mirror/internal/oci"
)

const (
	// quarantineFiles is how many damaged files are kept: enough to see a pattern in what happened to them.
	quarantineFiles = 16
	// quarantineShare bounds them to one in so many bytes of the size limit.
	quarantineShare = 8
)

// errTooLong: the quarantine has no room for a file of that length.
var errTooLong = errors.New("file is too long for the quarantine")

// quarantine knows the damaged files that are kept. Their bytes count against the size limit.
type quarantine struct {
	files []quarantined // oldest first
	bytes int64
}

type quarantined struct {
	path string
	size int64
	at   uint64 // when, in seconds since 1970
}

func (q *quarantine) add(f quarantined) {
	q.files = append(q.files, f)
	q.bytes += f.size
}

// has reports whether there is a file of that path.
func (q *quarantine) has(path string) bool {
	return slices.ContainsFunc(q.files, func(f quarantined) bool { return f.path == path })
}

// removeOldest forgets the oldest file and returns it.
func (q *quarantine) removeOldest() quarantined {
	oldest := q.files[0]
	q.files = q.files[1:]
	q.bytes -= oldest.size
	return oldest
}

// heal takes content out of service that is missing, short or altered, so that the next request fetches it again. Like
// every removal it begins with the table and the record. A crash before the file is moved leaves it where it was, and the
// next start takes it in again, to be found damaged once more.
func (c *Cache) heal(d oci.Digest, e *entry, cause error) {
	c.names.Lock()
	defer c.names.Unlock()
	if len(c.withdraw([]victim{{digest: d, entry: e}}, c.index.take)) == 0 {
		return // somebody else was faster
	}
	if errors.Is(cause, fs.ErrNotExist) {
		c.room.give(e.size)
		c.log.Warn("the file of stored content is missing; it will be fetched again", "digest", d, "error", cause)
		return
	}
	c.metrics.quarantined.Inc()
	path, err := c.isolate(d, e.size)
	if err != nil {
		c.log.Warn("stored content is damaged and is not kept in quarantine; it will be fetched again: check the disk and the memory of this machine",
			"digest", d, "error", errors.Join(cause, err))
		return
	}
	c.log.Warn("stored content is damaged; it was moved to "+path+" and will be fetched again: check the disk and the memory of this machine",
		"digest", d, "error", cause)
}

// isolate moves the file of withdrawn content, for which held bytes are accounted, into quarantine and returns its new
// path. When that fails, the file is unlinked. The caller holds names alone.
func (c *Cache) isolate(d oci.Digest, held int64) (path string, err error) {
	path, err = c.moveAside(d, held)
	if err == nil {
		c.boundQuarantine(quarantineFiles, c.quarantineLimit())
		return path, nil
	}
	c.unlinkHeld(blobPath(c.disk.dir, d), held)
	return "", err
}

// moveAside renames the file and accounts for its real length from then on. After an error nothing has changed.
func (c *Cache) moveAside(d oci.Digest, held int64) (path string, err error) {
	from := blobPath(c.disk.dir, d)
	info, err := os.Lstat(from)
	if err != nil {
		return "", err
	}
	size := info.Size()
	if size > c.quarantineLimit() {
		return "", errTooLong
	}
	grown := max(0, size-held)
	if _, ok := c.room.take(grown); !ok {
		return "", ErrNoRoom
	}
	at := uint64(time.Now().Unix())
	for path = quarantinePath(c.disk.dir, d, at); c.quarantine.has(path); path = quarantinePath(c.disk.dir, d, at) {
		at++
	}
	if err := c.disk.rename(from, path); err != nil {
		c.room.give(grown)
		return "", err
	}
	c.room.give(held + grown - size)
	c.quarantine.add(quarantined{path, size, at})
	return path, nil
}

// quarantineLimit is how many bytes may be in quarantine.
func (c *Cache) quarantineLimit() int64 { return c.room.limit / quarantineShare }

// boundQuarantine unlinks the oldest files until no more than that are left, and returns the bytes freed. The caller holds
// names alone.
func (c *Cache) boundQuarantine(files int, bytes int64) (freed int64) {
	for len(c.quarantine.files) > files || c.quarantine.bytes > bytes {
		oldest := c.quarantine.removeOldest()
		freed += c.unlinkHeld(oldest.path, oldest.size)
	}
	return freed
}

// emptyQuarantine gives up all files in quarantine for room that nothing else can make, and returns the bytes freed.
func (c *Cache) emptyQuarantine() int64 {
	c.names.Lock()
	defer c.names.Unlock()
	return c.boundQuarantine(0, 0)
}

// unlinkHeld unlinks a file that nobody wants any more, gives its room back and returns the bytes freed. A file that stays
// keeps its room until it can be unlinked.
func (c *Cache) unlinkHeld(path string, held int64) (freed int64) {
	if err := c.disk.unlink(path); err != nil {
		c.log.Warn("damaged content could not be unlinked; that is tried again later", "error", err)
		c.leftovers.add(path, held)
		return 0
	}
	c.room.give(held)
	return held
}

// restoreQuarantine accounts for what earlier runs have put into quarantine. Files with other names are not ours.
func (c *Cache) restoreQuarantine() error {
	names, err := os.ReadDir(filepath.Join(c.disk.dir, quarantineDir))
	if err != nil {
		return fmt.Errorf("read quarantine: %w", err)
	}
	var found []quarantined
	for _, name := range names {
		d, at, ok := parseNumbered(name.Name())
		info, err := name.Info()
		if !ok || err != nil {
			continue
		}
		found = append(found, quarantined{quarantinePath(c.disk.dir, d, at), info.Size(), at})
	}
	slices.SortFunc(found, func(a, b quarantined) int { return cmp.Compare(a.at, b.at) })
	c.names.Lock()
	defer c.names.Unlock()
	for _, f := range found {
		c.room.hold(f.size)
		c.quarantine.add(f)
	}
	c.boundQuarantine(quarantineFiles, c.quarantineLimit())
	return nil
}
