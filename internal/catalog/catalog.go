package catalog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/oci"
)

// Config says where names are kept.
type Config struct {
	// Dir is the data directory. It is created, readable by its owner only, when it is missing.
	Dir string
}

// Catalog remembers names. All methods may be called from several goroutines.
type Catalog struct {
	log     *slog.Logger
	path    string
	metrics *metrics

	mu           sync.RWMutex // guards the three below
	repositories map[oci.Repository]*repository
	// numbers are those in use, and those that damaged records claim. A number that was given out twice would lend one
	// repository's links to another.
	numbers    map[uint32]struct{}
	lastNumber uint32

	mediaTypes *mediaTypes
	lists      *lists
	queue      *queue

	// store is the open file. The committer alone replaces it; readers of the old one are not disturbed.
	store atomic.Pointer[store]
	// garbage are records found damaged at Open, for the first commit to remove. Only the committer uses it.
	garbage []operation
	// replaced is when a damaged file was last set aside. Only the committer uses it.
	replaced time.Time
	outage   outage

	lastCommit chan error // what the committer's last commit returned
	close      func() error
}

// Open reads the catalog in the data directory, or begins an empty one. It waits two seconds for a process that has it
// open, then returns ErrInUse. A damaged file is set aside; see the package comment.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Catalog, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	c := &Catalog{
		log:          log.With("component", "catalog"),
		path:         filepath.Join(cfg.Dir, fileName),
		repositories: make(map[oci.Repository]*repository),
		numbers:      make(map[uint32]struct{}),
		mediaTypes:   newMediaTypes(),
		lists:        newLists(),
		queue:        newQueue(),
		lastCommit:   make(chan error, 1),
	}
	c.metrics = newMetrics(c)
	if err := c.openStore(); err != nil {
		if s := c.store.Load(); s != nil {
			s.abandon()
		}
		return nil, fmt.Errorf("open catalog %s: %w", c.path, err)
	}
	c.metrics.register(reg)
	c.close = sync.OnceValue(c.stop)
	go c.commitAll()
	return c, nil
}

// openStore opens the file and reads it into memory.
func (c *Catalog) openStore() error {
	s, err := openStore(c.path)
	if err == nil {
		c.store.Store(s)
		err = s.load(c)
	}
	if errors.Is(err, errDamaged) {
		return c.replaceStore(err)
	}
	return err
}

// replaceStore puts a new file in the place of a damaged one and notes everything in memory as unsaved.
func (c *Catalog) replaceStore(cause error) error {
	aside, err := setAside(c.path)
	if err != nil {
		return fmt.Errorf("%w; set it aside: %w", cause, err)
	}
	c.metrics.damaged.Inc()
	c.log.Warn("catalog was damaged and is kept as "+aside+"; names that could not be read are learnt again", "error", cause)
	s, err := openStore(c.path)
	if err != nil {
		return fmt.Errorf("begin a new file: %w", err)
	}
	if old := c.store.Swap(s); old != nil {
		old.abandon()
	}
	c.replaced, c.garbage = time.Now(), nil
	c.lists.forgetSaved()
	for _, r := range c.allRepositories() {
		r.noteAll()
		c.queue.add(r)
	}
	return nil
}

// Close writes everything that is not on disk yet and closes the file. Reading from memory still works afterwards;
// changes are refused or forgotten. The second call returns what the first did.
func (c *Catalog) Close() error { return c.close() }

// repository returns what is known of a repository, or nil.
func (c *Catalog) repository(name oci.Repository) *repository {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.repositories[name]
}

// change calls f with the repository of that name, under its lock. An unknown name gets a number first.
func (c *Catalog) change(name oci.Repository, f func(*repository)) *repository {
	for {
		r := c.intern(name)
		if r.change(func() { f(r) }) {
			return r
		}
	}
}

// intern is repository that gives an unknown name a number. What it returns may be gone by the time that it is used.
func (c *Catalog) intern(name oci.Repository) *repository {
	if r := c.repository(name); r != nil && !r.gone.Load() {
		return r
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.repositories[name]; r != nil && !r.gone.Load() {
		return r
	}
	r := newRepository(c.newNumber(), name)
	r.unsaved.name = true
	c.repositories[name] = r
	return r
}

// newNumber returns the next number that nobody has. The caller holds the lock.
func (c *Catalog) newNumber() uint32 {
	for {
		c.lastNumber++
		if _, taken := c.numbers[c.lastNumber]; !taken {
			c.numbers[c.lastNumber] = struct{}{}
			return c.lastNumber
		}
	}
}

// allRepositories returns every known repository, in no order.
func (c *Catalog) allRepositories() []*repository {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]*repository, 0, len(c.repositories))
	for _, r := range c.repositories {
		all = append(all, r)
	}
	return all
}
