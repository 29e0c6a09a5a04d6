package catalog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// fileName is the catalog's file in the data directory. A damaged one is renamed to it with damagedSuffix and the Unix
// time in seconds.
const (
	fileName      = "catalog.db"
	damagedSuffix = ".damaged-"
)

const (
	// lockTimeout is how long to wait for another process to let go of the file. A restart overlaps by less.
	lockTimeout = 2 * time.Second
	// mappedBytes is address space, not memory. While the file is shorter, growing it need not wait for readers.
	mappedBytes = 1 << 30
	// growBytes is by how much the file grows. bbolt's own choice of 16 MiB makes the smallest catalog look large.
	growBytes = 1 << 20
	// maxTransaction bounds the operations of one transaction, and so the memory that bbolt takes for it.
	maxTransaction = 10_000
)

// store is an open bbolt file. bbolt panics on damage that it comes across, and reading a page of the mapping that the
// disk does not give is a fault: here both become errDamaged.
type store struct {
	db       *bbolt.DB
	file     *os.File    // the one that db uses
	identity os.FileInfo // of file, when it was opened
	// broken means that a write met damage. bbolt may have left its write lock taken, so it is not called to write again.
	broken bool
}

// openStore opens or creates the file. A store that cannot be opened holds no lock.
func openStore(path string) (*store, error) {
	s := &store{}
	options := &bbolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mappedBytes,
		NoStatistics:    true,
		OpenFile:        s.openFile,
	}
	err := guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, options)
		return err
	})
	if err = s.classify(err, path); err != nil {
		s.abandon()
		return nil, err
	}
	s.db.AllocSize = growBytes
	// bbolt syncs the file and not the directory, without which a new file is gone after a power failure.
	if err := syncDirectory(filepath.Dir(path)); err != nil {
		s.abandon()
		return nil, err
	}
	return s, nil
}

// openFile is os.OpenFile that remembers the file: bbolt does not let go of it when it panics.
func (s *store) openFile(path string, flag int, mode os.FileMode) (*os.File, error) {
	file, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	s.file = file
	s.identity, err = file.Stat()
	return file, err
}

// classify says what an error of opening means. Whatever is no answer of the operating system is damage.
func (s *store) classify(err error, path string) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return ErrInUse
	case s.identity != nil && !s.isAt(path):
		// Another process set this file aside while we waited for its lock, and works with a new one by now.
		return ErrInUse
	case err == nil, errors.Is(err, errDamaged), errors.As(err, &errno):
		return err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}

// isAt reports whether the file that was opened is still the one that path names.
func (s *store) isAt(path string) bool {
	there, err := os.Stat(path)
	return err == nil && os.SameFile(s.identity, there)
}

// guard turns panics and memory faults of f into errDamaged.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v", errDamaged, reason)
		}
	}()
	return f()
}

// write carries out the operations, in the order of the file; of two for one key, the later one counts. It is not one transaction when there are very many of
// them; a crash between two leaves the later buckets behind, never a number without its repository.
func (s *store) write(operations []operation) error {
	if s.broken {
		return errDamaged
	}
	slices.SortStableFunc(operations, func(a, b operation) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), bytes.Compare(a.key, b.key))
	})
	for chunk := range slices.Chunk(operations, maxTransaction) {
		err := guard(func() error {
			return s.db.Update(func(tx *bbolt.Tx) error { return apply(tx, chunk) })
		})
		if errors.Is(err, syscall.EFBIG) {
			// No catalog is as long as that: the list of free pages names pages far beyond the end.
			err = fmt.Errorf("%w: %w", errDamaged, err)
		}
		if err != nil {
			s.broken = errors.Is(err, errDamaged)
			return fmt.Errorf("write catalog: %w", err)
		}
	}
	return nil
}

// apply prepares the operations in bbolt's memory. Nothing of the environment can fail there, so an error is damage: a
// bucket where a record should be, or the reverse.
func apply(tx *bbolt.Tx, operations []operation) error {
	for _, o := range operations {
		b, err := tx.CreateBucketIfNotExists(o.bucket.name())
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		if o.value == nil {
			err = b.Delete(o.key)
		} else {
			err = b.Put(o.key, o.value)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	return nil
}

// each calls f with every record of a bucket. Key and record are valid during the call only.
func (s *store) each(b bucket, f func(key, record []byte)) error {
	return guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			records := tx.Bucket(b.name())
			if records == nil {
				return nil
			}
			var last []byte
			return records.ForEach(func(key, record []byte) error {
				// Pages that name one another in a circle would have no end.
				if record == nil || last != nil && bytes.Compare(key, last) <= 0 {
					return fmt.Errorf("%w: bucket %s is not a sorted list of records", errDamaged, b.name())
				}
				last = key
				f(key, record)
				return nil
			})
		})
	})
}

// inspect looks at the head of every page in use. bbolt takes its word for how many pages it spans, and a wrong number
// there would make bbolt free or read billions of pages rather than panic.
func (s *store) inspect() error {
	return guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			pages := int(tx.Size()) / s.db.Info().PageSize
			for id := 0; id < pages; id++ {
				page, err := tx.Page(id)
				if err != nil {
					return err
				}
				if page.Type == "free" {
					continue
				}
				if strings.HasPrefix(page.Type, "unknown") || page.OverflowCount >= pages-id {
					return fmt.Errorf("%w: page %d is of type %s and spans %d more", errDamaged, id, page.Type, page.OverflowCount)
				}
				id += page.OverflowCount
			}
			return nil
		})
	})
}

// list reads one list.
func (s *store) list(name listName) (l List, found bool, err error) {
	key := listKey(name)
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) (err error) {
			records := tx.Bucket(listsBucket.name())
			if records == nil {
				return nil
			}
			record := records.Get(key)
			if record == nil {
				return nil
			}
			l, err = readList(key, record)
			found = err == nil
			return err
		})
	})
	switch {
	case errors.Is(err, bbolterrors.ErrDatabaseNotOpen):
		return List{}, false, ErrClosed
	case err != nil:
		return List{}, false, fmt.Errorf("read list: %w", err)
	}
	return l, found, nil
}

func (s *store) close() error {
	if s.broken {
		s.abandon()
		return nil
	}
	if err := guard(s.db.Close); err != nil {
		return fmt.Errorf("close catalog file: %w", err)
	}
	return nil
}

// abandon lets go of the file and its lock, but neither of the mapping, which readers may still use, nor of bbolt's
// memory: after a panic bbolt may hold locks that a proper close would wait for.
func (s *store) abandon() {
	if s.file != nil {
		_ = s.file.Close() // nothing was written that anyone counts on
	}
}

// setAside renames a damaged file, so that people can look at it, and returns its new name. A file that is gone already,
// because the new one could not be created last time, is no error.
func setAside(path string) (string, error) {
	aside := path + damagedSuffix + strconv.FormatInt(time.Now().Unix(), 10)
	if err := os.Rename(path, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return aside, syncDirectory(filepath.Dir(path))
}

// syncDirectory makes sure that a name in a directory survives a power failure.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
