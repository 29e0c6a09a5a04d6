package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"mirror/internal/oci"
)

// The policies of Config.Sync.
const (
	// SyncAlways syncs content, its name and its record before it counts as complete. A loss of power costs nothing that
	// is complete.
	SyncAlways = "always"
	// SyncLazy leaves syncing to the kernel, and to one sync of the whole file system in a minute. A killed mirror loses
	// nothing, because the kernel has everything. After a loss of power, what was stored since the last sync is compared
	// with its digests before it is served again, and what was arriving is fetched anew.
	SyncLazy = "lazy"
)

// unsyncedFile is there while a run with SyncLazy has content that may not be on the disk. It holds the number of the
// machine's start (boot), and its time is that of the last sync.
const unsyncedFile = "unsynced"

// doubt is what a loss of power may have done to content under SyncLazy.
type doubt struct {
	// any: there was one. Then complete content is trusted only if it was stored before since, in seconds since 1970, and
	// partial content not at all.
	any   bool
	since int64
}

// doubts tells whether the last run may have lost content that it took for stored.
func (k *disk) doubts() (doubt, error) {
	path := filepath.Join(k.dir, unsyncedFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return doubt{}, nil
	}
	if err != nil {
		return doubt{}, fmt.Errorf("look at %s: %w", unsyncedFile, err)
	}
	was, err := os.ReadFile(path)
	if err != nil {
		return doubt{}, fmt.Errorf("read %s: %w", unsyncedFile, err)
	}
	lost := k.boot == "" || string(was) != k.boot
	return doubt{any: lost, since: info.ModTime().Unix() - 1}, nil
}

// noteUnsynced says that what is stored from now on may not be on the disk when the machine stops, and that everything
// before is. A crash leaves the old note or the new one.
func (k *disk) noteUnsynced() error {
	before := time.Now()
	if err := syncAll(k.dir); err != nil {
		return err
	}
	path := filepath.Join(k.dir, unsyncedFile)
	if err := os.WriteFile(path+newSuffix, []byte(k.boot), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", unsyncedFile, err)
	}
	if err := os.Chtimes(path+newSuffix, before, before); err != nil {
		return fmt.Errorf("write %s: %w", unsyncedFile, err)
	}
	return os.Rename(path+newSuffix, path)
}

// noteSynced says that everything is on the disk, and will be.
func (k *disk) noteSynced() error {
	path := filepath.Join(k.dir, unsyncedFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := syncAll(k.dir); err != nil {
		return err
	}
	return k.unlink(path)
}

// beginSync finds out what the last run may have lost. If nothing, doubts about this run begin, if its policy has any.
func (c *Cache) beginSync() (err error) {
	if c.doubt, err = c.disk.doubts(); err != nil {
		return err
	}
	if !c.doubt.any {
		c.beginDoubts()
		return nil
	}
	c.log.Warn("the machine stopped while content was not synced (cache.sync: lazy); what came last is compared with its digests before it is served")
	return nil
}

// beginDoubts is settleSync for a start that has no doubts about earlier runs. A full disk must not keep the mirror from
// starting, so a run that cannot be noted syncs everything instead; an old note that stays costs a comparison at most.
func (c *Cache) beginDoubts() {
	err := c.settleSync()
	if err == nil {
		return
	}
	c.disk.lazy = false
	c.log.Warn("it cannot be noted what is synced, so this run syncs all content as if cache.sync were always: make room in the data directory and restart",
		"error", err)
}

// settleSync ends the doubts about earlier runs, once what was doubtful is verified or gone, and begins those about this
// one. Until then the old note stands, which covers both.
func (c *Cache) settleSync() error {
	if c.disk.lazy {
		return c.disk.noteUnsynced()
	}
	return c.disk.noteSynced()
}

// doubtful reports whether a record has to be confirmed by its content.
func (c *Cache) doubtful(rec record) bool { return c.doubt.any && rec.stored >= c.doubt.since }

// confirm compares a file that has no record with the digest it is named by, if that is doubtful, and removes it when it is
// wrong.
func (c *Cache) confirm(d oci.Digest) bool {
	if !c.doubt.any {
		return true
	}
	file, err := c.disk.open(d)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.ModTime().Unix() < c.doubt.since {
		return err == nil
	}
	v := victim{digest: d, entry: &entry{size: info.Size()}}
	if err = c.compareBytes(file, v, func(int) error { return c.ctx.Err() }); err == nil || c.ctx.Err() != nil {
		return err == nil
	}
	c.names.Lock()
	defer c.names.Unlock()
	if e, f := c.index.find(d); e != nil || f != nil {
		return false // it is being replaced
	}
	c.log.Warn("content was lost with the power and will be fetched anew", "digest", d, "error", err)
	if err := c.disk.remove(d); err != nil {
		c.log.Warn("lost content could not be unlinked", "digest", d, "error", err)
	}
	return false
}
