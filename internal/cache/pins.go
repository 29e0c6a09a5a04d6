package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mirror/internal/oci"
)

// Pins are kept in the table, and in a file of their own: a damaged index file is made anew from the content, but what is
// pinned could not be. The file is text, one digest in a line, written whole on each change; there are few changes, and
// one writes some hundred kilobytes for some thousand pins.

// errNoDigest is a caller's mistake: a digest that names nothing.
var errNoDigest = errors.New("BUG: pin of the zero digest")

// Pin keeps contents from being evicted, those too that are stored later. When it returns, that survives a crash; after an
// error nothing is pinned that was not before. Pinned content counts against the size limit like any other, and can be
// removed (Remove); the pin then waits for content of that digest to come again.
func (c *Cache) Pin(digests ...oci.Digest) error {
	return c.changePins("pin content", digests, addPin)
}

// Unpin lets contents be evicted again, in their turn. When it returns, that survives a crash; after an error everything is
// pinned that was before. What is not pinned is left as it is.
func (c *Cache) Unpin(digests ...oci.Digest) error {
	return c.changePins("unpin content", digests, removePin)
}

func addPin(pins map[oci.Digest]struct{}, d oci.Digest) { pins[d] = struct{}{} }

func removePin(pins map[oci.Digest]struct{}, d oci.Digest) { delete(pins, d) }

// changePins changes what is pinned, in the file and then in the table.
func (c *Cache) changePins(verb string, digests []oci.Digest, change func(map[oci.Digest]struct{}, oci.Digest)) error {
	c.closing.RLock()
	defer c.closing.RUnlock()
	if c.closed {
		return ErrClosed
	}
	c.pinning.Lock()
	defer c.pinning.Unlock()
	before := c.index.pinned()
	pins := maps.Clone(before)
	for _, d := range digests {
		if d.IsZero() {
			return errNoDigest
		}
		change(pins, d)
	}
	if len(pins) == len(before) {
		return nil // a change only adds or only takes away
	}
	if err := c.disk.writePins(pins); err != nil {
		return diskError(verb, errors.Join(err, c.disk.writePins(before))) // the new file may have got its name already
	}
	for _, d := range digests {
		c.index.changePin(d, change)
	}
	return nil
}

// restorePins pins what earlier runs have pinned. A damaged file is set aside, and what is good of it stays pinned; one that
// cannot be read at all is left as it is, because the disk or this process is in trouble, and not the content of the file.
func (c *Cache) restorePins() error {
	text, err := c.disk.readPins()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	path := filepath.Join(c.disk.dir, pinsFile)
	if err != nil {
		return fmt.Errorf("read pins: %w (to start without pins, move %s away)", err, path)
	}
	pins, damaged := parsePins(text)
	for d := range pins {
		c.index.changePin(d, addPin)
	}
	if !damaged {
		return nil
	}
	aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	if err = c.disk.replace(opPins, aside, text); err == nil {
		err = c.disk.writePins(pins)
	}
	if err != nil {
		return fmt.Errorf("set damaged pins aside: %w", err)
	}
	c.log.Warn("the file of pins is damaged; what it had is in " + aside + ": pin again what is missing")
	return nil
}

// parsePins reads the file of pins; damaged reports lines that are no digests.
func parsePins(text []byte) (pins map[oci.Digest]struct{}, damaged bool) {
	pins = make(map[oci.Digest]struct{})
	for line := range bytes.Lines(text) {
		d, err := oci.ParseDigest(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil {
			damaged = true
			continue
		}
		pins[d] = struct{}{}
	}
	return pins, damaged
}

// formatPins is the inverse of parsePins. It sorts, for whoever compares two files.
func formatPins(pins map[oci.Digest]struct{}) []byte {
	lines := make([]string, 0, len(pins))
	for d := range pins {
		lines = append(lines, d.String()+"\n")
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// pinned returns what is pinned, stored or not.
func (x *index) pinned() map[oci.Digest]struct{} {
	all := make(map[oci.Digest]struct{})
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		maps.Copy(all, s.pins)
		s.mu.RUnlock()
	}
	return all
}

// changePin applies a change to the pins of d's shard.
func (x *index) changePin(d oci.Digest, change func(map[oci.Digest]struct{}, oci.Digest)) {
	s := x.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.pinnedBytesLocked(d)
	change(s.pins, d)
	x.pinnedBytes.Add(s.pinnedBytesLocked(d) - before)
}

// pinnedBytesLocked returns the size of d if it is stored and pinned, else 0.
func (s *shard) pinnedBytesLocked(d oci.Digest) int64 {
	if e := s.entryLocked(d); e != nil && s.pinnedLocked(d) {
		return e.size
	}
	return 0
}

// pinnedLocked reports whether d is pinned.
func (s *shard) pinnedLocked(d oci.Digest) bool {
	if len(s.pins) == 0 {
		return false // the usual case, which an eviction asks for everything there is
	}
	_, ok := s.pins[d]
	return ok
}
