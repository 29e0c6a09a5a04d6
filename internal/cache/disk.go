package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"mirror/internal/oci"
)

// operation labels a kind of file operation, so that a test can fail exactly one of them.
type operation string

const (
	opCreate   operation = "create"
	opOpen     operation = "open"
	opRead     operation = "read"
	opWrite    operation = "write"
	opTruncate operation = "truncate"
	opSync     operation = "sync"
	opRename   operation = "rename"
	opUnlink   operation = "unlink"
	opSyncDir  operation = "sync directory"
	opJournal  operation = "journal" // each step of writing one
	opPins     operation = "pins"    // each step of writing the file of pins
	opIndex    operation = "index"   // before, in and after each transaction of the index file
)

// disk does every file operation of the disk tier. It knows the layout, and no locks, limits or index.
type disk struct {
	dir string
	// lazy: SyncLazy, so that nothing is synced on the way. boot is the bootID of this start of the machine.
	lazy bool
	boot string
	// fault, when set, is asked before each operation and fails it by returning an error. Only tests set it.
	fault func(operation) error
	// partials numbers partial files, beyond all that were there at the start: a name is never used twice in one run, so
	// unlinking one cannot hit another's.
	partials atomic.Uint64
}

func (k *disk) try(op operation) error {
	if k.fault == nil {
		return nil
	}
	return k.fault(op)
}

// prepare makes the directories.
func (k *disk) prepare() error {
	for _, alg := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
		if err := os.MkdirAll(filepath.Join(k.dir, blobsDir, alg.String()), 0o700); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	for _, name := range []string{partialDir, quarantineDir} {
		if err := os.MkdirAll(filepath.Join(k.dir, name), 0o700); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	return nil
}

// open opens complete content for reading.
func (k *disk) open(d oci.Digest) (*os.File, error) {
	if err := k.try(opOpen); err != nil {
		return nil, err
	}
	return os.Open(blobPath(k.dir, d))
}

// openPartial opens a partial file of an earlier run, to go on writing it.
func (k *disk) openPartial(path string) (*os.File, error) {
	if err := k.try(opOpen); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// reopen opens the partial file f once more, for a reader that may outlive it.
func (k *disk) reopen(f *os.File) (*os.File, error) {
	if err := k.try(opOpen); err != nil {
		return nil, err
	}
	return os.Open(f.Name())
}

// readAt fills b from off on; a file that ends before is an error.
func (k *disk) readAt(f *os.File, b []byte, off int64) error {
	if err := k.try(opRead); err != nil {
		return err
	}
	if n, err := f.ReadAt(b, off); n < len(b) {
		return fmt.Errorf("read %d of %d bytes: %w", n, len(b), err)
	}
	return nil
}

// truncate empties a partial file.
func (k *disk) truncate(f *os.File) error {
	if err := k.try(opTruncate); err != nil {
		return err
	}
	return f.Truncate(0)
}

// create makes an empty partial file for d.
func (k *disk) create(d oci.Digest) (*os.File, error) {
	if err := k.try(opCreate); err != nil {
		return nil, err
	}
	return os.OpenFile(partialPath(k.dir, d, k.partials.Add(1)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// writeAt writes all of b at off.
func (k *disk) writeAt(f *os.File, b []byte, off int64) error {
	if err := k.try(opWrite); err != nil {
		return err
	}
	_, err := f.WriteAt(b, off)
	return err
}

// name turns the partial file f of d, whose content is verified and synced, into complete content. A crash before the
// rename leaves a partial file, a crash after it a complete one.
func (k *disk) name(d oci.Digest, f *os.File) error {
	path := blobPath(k.dir, d)
	err := k.rename(f.Name(), path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = k.makeDir(filepath.Dir(path)); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		err = k.rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("rename content: %w", err)
	}
	return k.syncDir(filepath.Dir(path))
}

// makeDir makes one directory of content, so that it survives a loss of power like the files in it.
func (k *disk) makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return k.syncDir(filepath.Dir(path))
}

func (k *disk) sync(f *os.File) error {
	if err := k.try(opSync); err != nil || k.lazy {
		return err
	}
	return f.Sync()
}

// replace writes a journal or the file of pins, as the label says. A crash leaves the old one or the new one, and maybe a
// new one without its name.
func (k *disk) replace(op operation, path string, b []byte) error {
	if err := k.writeNew(op, path+newSuffix, b); err != nil {
		return fmt.Errorf("write %s: %w", op, err)
	}
	if err := k.try(op); err != nil {
		return fmt.Errorf("rename %s: %w", op, err)
	}
	return os.Rename(path+newSuffix, path)
}

// writeNew writes and syncs a file that has not got its name yet. Pins are synced whatever the policy: they are few, and
// nothing else tells what they were.
func (k *disk) writeNew(op operation, path string, b []byte) (err error) {
	if err := k.try(op); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(b); err != nil {
		return err
	}
	if err := k.try(op); err != nil || k.lazy && op != opPins {
		return err
	}
	return file.Sync()
}

// readPins returns the file of pins, or what could be read of it.
func (k *disk) readPins() ([]byte, error) {
	if err := k.try(opPins); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(k.dir, pinsFile))
}

// writePins replaces the file of pins; it returns when that is on the disk.
func (k *disk) writePins(pins map[oci.Digest]struct{}) error {
	if err := k.replace(opPins, filepath.Join(k.dir, pinsFile), formatPins(pins)); err != nil {
		return err
	}
	if err := k.try(opPins); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return syncDirNow(k.dir)
}

func (k *disk) rename(from, to string) error {
	if err := k.try(opRename); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (k *disk) syncDir(path string) error {
	if err := k.try(opSyncDir); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if k.lazy {
		return nil
	}
	return syncDirNow(path)
}

func syncDirNow(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// remove unlinks complete content. Readers that have it open go on undisturbed. Content that is gone already is no error.
func (k *disk) remove(d oci.Digest) error { return k.unlink(blobPath(k.dir, d)) }

func (k *disk) unlink(path string) error {
	if err := k.try(opUnlink); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
