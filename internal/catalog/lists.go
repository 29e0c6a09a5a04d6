package catalog

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"mirror/internal/oci"
)

// Lists serve outages only, so losing some is harmless, and room for them is bounded in every direction.
const (
	maxLists = 10_000
	// maxListBody and maxListKey are the longest body and key in bytes.
	maxListBody = 1 << 20
	maxListKey  = 1 << 10
	// maxListBytes bounds all bodies together, which is about their share of the file.
	maxListBytes = 256 << 20
	// maxHeldListBytes bounds the bodies in memory that wait for a disk that is slow or full.
	maxHeldListBytes = 32 << 20
)

// List is an answer of an upstream as it was last seen: a page of tags, or of referrers.
type List struct {
	// Body is shared with the catalog: nobody may change it.
	Body []byte
	// CheckedAt is when the upstream gave it. It is kept in whole microseconds.
	CheckedAt time.Time
}

// lists knows which lists are on disk, and holds the bodies of those that are not yet.
type lists struct {
	mu      sync.Mutex // guards all below
	index   map[listName]*listEntry
	bytes   int64 // of all bodies
	held    int64 // of the bodies in memory
	unsaved map[listName]struct{}
}

// listName is the repository's number and the caller's key.
type listName struct {
	repository uint32
	key        string
}

// listEntry is never changed but for letting go of the body: another value of the same list is another entry, by which a
// commit sees that it did not write the last one.
type listEntry struct {
	checkedAt time.Time
	size      int64
	body      []byte // until it is saved
	isHeld    bool   // body is valid, also when it is empty
}

func newLists() *lists {
	return &lists{index: make(map[listName]*listEntry), unsaved: make(map[listName]struct{})}
}

// List returns the list under key, which is the caller's: "tags?n=100", "referrers/sha256:…". An error means that the
// list is known but could not be read.
func (c *Catalog) List(repo oci.Repository, key string) (List, bool, error) {
	r := c.repository(repo)
	if r == nil {
		return List{}, false, nil
	}
	name := listName{r.id, key}
	entry, ok := c.lists.get(name)
	if !ok {
		return List{}, false, nil
	}
	if entry.isHeld {
		return List{Body: entry.body, CheckedAt: entry.checkedAt}, true, nil
	}
	return c.store.Load().list(name)
}

// SetList remembers a list, instead of the one that was under the key. It is written soon. Lists over 1 MiB are not
// remembered, and of more than 10,000 lists or 256 MiB in all the oldest are forgotten.
func (c *Catalog) SetList(repo oci.Repository, key string, l List) {
	if len(l.Body) > maxListBody || len(key) > maxListKey {
		c.metrics.listsDropped.Inc()
		return
	}
	r := c.intern(repo)
	c.metrics.listsDropped.Add(float64(c.lists.set(listName{r.id, key}, l)))
	for r.gone.Load() { // since it was found, so its lists are forgotten and this one is behind the door
		c.lists.removeAll(r.id)
		r = c.intern(repo)
		c.metrics.listsDropped.Add(float64(c.lists.set(listName{r.id, key}, l)))
	}
	c.queue.add(r)
}

func (ls *lists) get(name listName) (listEntry, bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if entry := ls.index[name]; entry != nil {
		return *entry, true
	}
	return listEntry{}, false
}

// set adds a list and returns how many it dropped for it, which may be this one.
func (ls *lists) set(name listName, l List) int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.remove(name)
	size := int64(len(l.Body))
	if ls.held+size > maxHeldListBytes {
		return 1
	}
	ls.add(name, &listEntry{checkedAt: wholeMicroseconds(l.CheckedAt), size: size, body: l.Body, isHeld: true})
	ls.unsaved[name] = struct{}{}
	return ls.makeRoom()
}

// add and remove keep the sums. The caller holds the lock.
func (ls *lists) add(name listName, entry *listEntry) {
	ls.index[name] = entry
	ls.bytes += entry.size
	if entry.isHeld {
		ls.held += entry.size
	}
}

func (ls *lists) remove(name listName) {
	entry := ls.index[name]
	if entry == nil {
		return
	}
	delete(ls.index, name)
	ls.unsaved[name] = struct{}{}
	ls.bytes -= entry.size
	if entry.isHeld {
		ls.held -= entry.size
	}
}

// removeAll forgets the lists of a repository.
func (ls *lists) removeAll(repository uint32) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for name := range ls.index {
		if name.repository == repository {
			ls.remove(name)
		}
	}
}

// hasAny reports whether there is a list of a repository.
func (ls *lists) hasAny(repository uint32) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for name := range ls.index {
		if name.repository == repository {
			return true
		}
	}
	return false
}

// makeRoom drops the oldest lists when there are too many, and some more, so that the work of finding the oldest is not
// done for every new one. It returns how many it dropped. The caller holds the lock.
func (ls *lists) makeRoom() int {
	if len(ls.index) <= maxLists && ls.bytes <= maxListBytes {
		return 0
	}
	names := make([]listName, 0, len(ls.index))
	for name := range ls.index {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b listName) int {
		return cmp.Or(ls.index[a].checkedAt.Compare(ls.index[b].checkedAt), cmp.Compare(a.repository, b.repository), cmp.Compare(a.key, b.key))
	})
	dropped := 0
	for len(ls.index) > maxLists*9/10 || ls.bytes > maxListBytes*9/10 {
		ls.remove(names[dropped])
		dropped++
	}
	return dropped
}

// takenList is a list that a commit writes, or removes when entry is nil.
type takenList struct {
	name  listName
	entry *listEntry
}

// takeUnsaved returns what is unsaved and the operations that save it. Nothing is unsaved afterwards.
func (ls *lists) takeUnsaved() ([]takenList, []operation) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	taken := make([]takenList, 0, len(ls.unsaved))
	operations := make([]operation, 0, len(ls.unsaved))
	for name := range ls.unsaved {
		entry := ls.index[name]
		taken = append(taken, takenList{name, entry})
		if entry == nil {
			operations = append(operations, deletion(listsBucket, listKey(name)))
			continue
		}
		operations = append(operations, putList(name, List{Body: entry.body, CheckedAt: entry.checkedAt}))
	}
	clear(ls.unsaved)
	return taken, operations
}

// saved lets go of the bodies that a commit has written.
func (ls *lists) saved(taken []takenList) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, list := range taken {
		if list.entry == nil || ls.index[list.name] != list.entry {
			continue
		}
		ls.held -= list.entry.size
		list.entry.body, list.entry.isHeld = nil, false
	}
}

// giveBack notes again what a failed commit had taken.
func (ls *lists) giveBack(taken []takenList) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, list := range taken {
		ls.unsaved[list.name] = struct{}{}
	}
}

// forgetSaved forgets the lists whose bodies were in a file that is gone, and notes the others as unsaved.
func (ls *lists) forgetSaved() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for name, entry := range ls.index {
		if !entry.isHeld {
			ls.remove(name)
		}
		ls.unsaved[name] = struct{}{}
	}
}

func (ls *lists) count() int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.index)
}
