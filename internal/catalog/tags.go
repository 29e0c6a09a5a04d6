package catalog

import (
	"fmt"
	"slices"
	"time"

	"mirror/internal/oci"
)

// Tag is what a tag pointed at when an upstream was last asked.
type Tag struct {
	Descriptor oci.Descriptor
	// CheckedAt is the last time that the upstream confirmed the mapping. It is kept in whole microseconds.
	CheckedAt time.Time
}

// Tag returns what is known of a tag, from memory and without allocating.
func (c *Catalog) Tag(repo oci.Repository, tag string) (Tag, bool) {
	r := c.repository(repo)
	if r == nil {
		return Tag{}, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.tags[tag]
	return t, ok
}

// SetTag points a tag at a manifest. Memory has it at once. When SetTag returns nil it is on disk, and so is every change
// that was made before the call; when it returns an error the write will be tried again, without telling. A tag that is
// not legal or a descriptor without digest is an error and changes nothing.
func (c *Catalog) SetTag(repo oci.Repository, tag string, t Tag) error {
	if !oci.ValidTag(tag) {
		return fmt.Errorf("set tag: %.140q is not a legal tag", tag)
	}
	if t.Descriptor.Digest.IsZero() {
		return fmt.Errorf("set tag %s: descriptor has no digest", tag)
	}
	t.Descriptor.MediaType = c.mediaTypes.shared(t.Descriptor.MediaType)
	t.CheckedAt = wholeMicroseconds(t.CheckedAt)
	r := c.change(repo, func(r *repository) { r.setTagLocked(tag, t) })
	if err := c.queue.addAndWait(r); err != nil {
		return fmt.Errorf("set tag %s: %w", tag, err)
	}
	return nil
}

// Touch records that the upstream confirmed at checkedAt that the tag names d. It does nothing when the tag names
// something else by now, or was confirmed later. Memory has it at once, the disk after half a minute at most: a crash
// makes a tag look older than it is, which costs one request.
func (c *Catalog) Touch(repo oci.Repository, tag string, d oci.Digest, checkedAt time.Time) {
	r := c.repository(repo)
	if r != nil && r.touch(tag, d, wholeMicroseconds(checkedAt)) {
		c.queue.addLazily(r)
	}
}

// DeleteTag forgets a tag. It waits for the disk like SetTag. Deleting what is not there is no error.
func (c *Catalog) DeleteTag(repo oci.Repository, tag string) error {
	r := c.repository(repo)
	if r == nil {
		return nil
	}
	r.deleteTag(tag)
	if err := c.queue.addAndWait(r); err != nil {
		return fmt.Errorf("delete tag %s: %w", tag, err)
	}
	return nil
}

// Tags returns the first n known tags after the given one, in the order of their bytes. With n of zero or less it
// returns all of them.
func (c *Catalog) Tags(repo oci.Repository, after string, n int) []string {
	r := c.repository(repo)
	if r == nil {
		return nil
	}
	tags := r.tagsAfter(after)
	slices.Sort(tags)
	if n > 0 && len(tags) > n {
		return tags[:n:n]
	}
	return tags
}

func (r *repository) setTagLocked(tag string, t Tag) {
	r.tags[tag] = t
	r.unsaved.tags[tag] = struct{}{}
}

// touch reports whether it changed something.
func (r *repository) touch(tag string, d oci.Digest, checkedAt time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tags[tag]
	if !ok || t.Descriptor.Digest != d || !checkedAt.After(t.CheckedAt) {
		return false
	}
	t.CheckedAt = checkedAt
	r.tags[tag] = t
	r.unsaved.tags[tag] = struct{}{}
	return true
}

func (r *repository) deleteTag(tag string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.tags[tag]; ok {
		delete(r.tags, tag)
		r.unsaved.tags[tag] = struct{}{}
	}
}

func (r *repository) tagsAfter(after string) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var tags []string
	for tag := range r.tags {
		if tag > after {
			tags = append(tags, tag)
		}
	}
	return tags
}

func (r *repository) tagCount() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.tags)
}

// wholeMicroseconds drops what a record does not hold, so that memory says the same before and after a restart.
func wholeMicroseconds(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()) }
