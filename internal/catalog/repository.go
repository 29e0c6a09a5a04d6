package catalog

import (
	"maps"
	"sync"
	"sync/atomic"

	"mirror/internal/oci"
)

// repository is what memory holds of one repository. Requests for different repositories do not meet at one lock.
type repository struct {
	id   uint32 // stands for the name in keys
	name oci.Repository
	// gone is set, under mu, when the repository is forgotten. It knows nothing then and learns nothing more: what comes
	// later belongs to another one of the same name, under another number.
	gone atomic.Bool

	mu      sync.RWMutex // guards all below
	tags    map[string]Tag
	links   oci.DigestMap[link]
	unsaved changes
}

// changes names what differs between memory and disk. It names and does not copy: a name changed twice is written once,
// with its last value.
type changes struct {
	name  bool
	tags  map[string]struct{}
	links map[oci.Digest]struct{}
}

func newRepository(id uint32, name oci.Repository) *repository {
	return &repository{id: id, name: name, tags: make(map[string]Tag), unsaved: newChanges()}
}

func newChanges() changes {
	return changes{tags: make(map[string]struct{}), links: make(map[oci.Digest]struct{})}
}

// change calls f under the lock, unless the repository is gone.
func (r *repository) change(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone.Load() {
		return false
	}
	f()
	return true
}

// noteAll notes everything the repository holds as unsaved.
func (r *repository) noteAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteAllLocked()
}

func (r *repository) noteAllLocked() {
	r.unsaved.name = true
	for tag := range r.tags {
		r.unsaved.tags[tag] = struct{}{}
	}
	for d := range r.links.All() {
		r.unsaved.links[d] = struct{}{}
	}
}

// takeUnsaved returns what is unsaved and the operations that save it. Nothing is unsaved afterwards.
func (r *repository) takeUnsaved(types *mediaTypes) (changes, []operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.unsaved
	r.unsaved = newChanges()
	operations := make([]operation, 0, 1+len(taken.tags)+len(taken.links))
	switch {
	case taken.name && r.gone.Load():
		operations = append(operations, deletion(repositoriesBucket, repositoryKey(r.id)))
	case taken.name:
		operations = append(operations, putRepository(r.id, r.name))
	}
	for tag := range taken.tags {
		if t, ok := r.tags[tag]; ok {
			operations = append(operations, putTag(r.id, tag, t))
			continue
		}
		operations = append(operations, deletion(tagsBucket, tagKey(r.id, tag)))
	}
	for d := range taken.links {
		if l, ok := r.links.Get(d); ok {
			operations = append(operations, putLink(r.id, d, l.public(types)))
			continue
		}
		operations = append(operations, deletion(linksBucket, linkKey(r.id, d)))
	}
	return taken, operations
}

// giveBack notes again what a failed commit had taken. What has changed meanwhile is noted as well.
func (r *repository) giveBack(taken changes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsaved.name = r.unsaved.name || taken.name
	maps.Copy(r.unsaved.tags, taken.tags)
	maps.Copy(r.unsaved.links, taken.links)
}
