package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mirror/internal/oci"
)

// restoreParts lets what earlier runs have left unfinished rest again, as far as journals tell what of it can be relied on.
// Everything else in the directory of partial files is swept. No file is left open.
func (c *Cache) restoreParts() error {
	names, err := c.disk.partialNames()
	if err != nil {
		return err
	}
	kept := make(map[string]bool)
	for _, name := range names {
		if part, ok := strings.CutSuffix(name, journalSuffix); ok && !c.doubt.any && c.restorePart(part) {
			kept[part], kept[name] = true, true
		}
	}
	for _, name := range names {
		if kept[name] {
			continue
		}
		if err := os.Remove(filepath.Join(c.disk.dir, partialDir, name)); err != nil {
			return fmt.Errorf("sweep partial directory: %w", err)
		}
	}
	c.dropParts(0, 0) // not more or older ones than allowed
	return nil
}

// restorePart lets the partial file of that name rest. It reports whether the file is worth that.
func (c *Cache) restorePart(name string) bool {
	d, p, err := c.disk.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false // a crash came between the removals of part and journal
	}
	if err != nil {
		c.log.Warn("unfinished content of an earlier run is discarded", "digest", d, "error", err)
		return false
	}
	s := c.index.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entryLocked(d) != nil || s.parts[d] != nil {
		return false
	}
	s.parts[d] = p
	c.room.hold(p.reserved)
	return true
}

// load makes a resting part of the partial file of that name and its journal. Bytes that are not claimed came after the
// journal; they are cut off or punched out, because they are not accounted for.
func (k *disk) load(name string) (oci.Digest, *part, error) {
	d, _, ok := parseNumbered(name)
	if !ok {
		return d, nil, fmt.Errorf("%w: %q is no name of a partial file", errJournal, name)
	}
	path := filepath.Join(k.dir, partialDir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return d, nil, err
	}
	c, written, err := k.readJournal(journalPath(path))
	if err != nil {
		return d, nil, err
	}
	if c.digest != d || !info.Mode().IsRegular() || info.Size() < c.end() || c.size >= 0 && info.Size() > c.size {
		return d, nil, fmt.Errorf("%w: it does not go with a file of %d bytes for %s", errJournal, info.Size(), d)
	}
	if err := clearUnclaimed(path, c); err != nil {
		return d, nil, err
	}
	p, err := c.part(path, written)
	return d, p, err
}

// clearUnclaimed gives back what a partial file holds beyond what is claimed. A file system that cannot punch holes keeps what
// lies between, at most what one journal lags behind, until the part is filled or dropped.
func clearUnclaimed(path string, c *claim) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, gap := range c.present.gaps() {
		if err := punch(file, gap); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return file.Truncate(c.end())
}

// readJournal reads a journal, and when it was written.
func (k *disk) readJournal(path string) (*claim, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	c, err := decodeClaim(b)
	return c, info.ModTime(), err
}

// part returns a resting part of what is claimed. Its file is opened when a fill takes it.
func (c *claim) part(path string, written time.Time) (*part, error) {
	h, err := c.hash()
	if err != nil {
		return nil, err
	}
	p := &part{
		path: path, size: c.size, present: c.present, hash: h, hashed: c.hashed, state: c.state, reserved: c.present.total(),
		rested: written,
	}
	if now := time.Now(); now.Before(written) { // a clock that was wrong must not keep it for ever
		p.rested = now
	}
	p.journal.claimed, p.journal.touched, p.journal.at = p.reserved, true, time.Now()
	return p, nil
}

// partialNames lists the directory of partial files, and lets new ones be numbered beyond those that are there.
func (k *disk) partialNames() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(k.dir, partialDir))
	if err != nil {
		return nil, fmt.Errorf("read partial directory: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
		if _, n, ok := parseNumbered(e.Name()); ok {
			k.partials.Store(max(n, k.partials.Load()))
		}
	}
	return names, nil
}

// continuePart makes a resting part ready for a fill of content of the given size, -1 if unknown. One that cannot be
// continued is discarded, and so is that of a suspect: its bytes may be the wrong ones, and readers who have got some of
// them must not find others in the same file later.
func (c *Cache) continuePart(p *part, size int64, suspect bool) bool {
	if !suspect && p.fit(size) && c.openPart(p) {
		return true
	}
	c.discardPart(p)
	return false
}

// openPart opens the file of a part that an earlier run has left.
func (c *Cache) openPart(p *part) bool {
	if p.file != nil {
		return true
	}
	var err error
	if p.file, err = c.disk.openPartial(p.path); err != nil {
		c.log.Warn("unfinished content of an earlier run could not be opened; it is fetched anew", "error", err)
	}
	return err == nil
}
