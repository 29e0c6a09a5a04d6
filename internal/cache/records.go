package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"mirror/internal/oci"
)

// The bbolt schema. Keys are digests in their binary form, values little-endian.
var (
	// blobsBucket: digest -> version byte, size (8 bytes), when stored (8 bytes, seconds since 1970), when the file was last
	// changed before it was verified (8 bytes, nanoseconds since 1970; 0 when that is not known). Version 1 lacks the last.
	blobsBucket = []byte("blobs")
	// usedBucket: digest -> its Use (8 bytes). Apart from the record because it changes often.
	usedBucket = []byte("used")
)

const (
	recordVersion = 2
	recordSize    = 1 + 8 + 8 + 8
	// firstVersion had records of firstSize.
	firstVersion = 1
	firstSize    = 1 + 8 + 8
	// batchLimit bounds the changes of one transaction, so that a burst does not hold up the first of them.
	batchLimit = 1000
	// mappedSize is address space, not memory or disk: with it the file grows without waiting for readers.
	mappedSize = 1 << 30
)

// record is what the index file holds of complete content.
type record struct {
	digest oci.Digest
	size   int64
	stored int64
	stamp  int64 // see entry
	use    Use
}

// change puts or deletes (value nil) one key. Without a bucket it only waits for what was queued before.
type change struct {
	bucket, key, value []byte
	result             chan<- error // nil when nobody waits
}

func (c change) onlyWaits() bool { return c.bucket == nil }

// records is the durable copy of the index. All writes go through one goroutine, which puts all that wait into one
// transaction: bbolt syncs twice per transaction, and its own Batch adds 10 ms. A transaction that fails is tried again
// with the next one, so that the table may go ahead of the file.
type records struct {
	db    *bbolt.DB
	queue chan []change
	done  chan struct{}

	// fault, when set, is asked before, in and after each transaction, and fails it by returning an error. Only tests set it.
	fault func(operation) error

	// These belong to the writer, and to close after the writer has ended: why nothing can be written any more, and what
	// could not be written so far.
	broken  error
	backlog backlog

	closing sync.RWMutex // guards closed against changes that are being queued
	closed  bool
}

// errDamaged: the index file contradicts itself.
var errDamaged = errors.New("index is damaged")

// openRecords opens or creates the index file. A damaged file is set aside; bbolt reports damage by errors, by panics and,
// where the file is shorter than it claims, by faults of memory access. rebuild tells the caller to make the index anew
// from the content.
func openRecords(dir string) (r *records, rebuild bool, err error) {
	path := filepath.Join(dir, indexFile)
	info, statErr := os.Stat(path)
	r, err = tryOpenRecords(path)
	if err == nil {
		return r, statErr != nil || info.Size() == 0, nil
	}
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, false, fmt.Errorf("another process owns the data directory %s: stop it, or set cache.dir to another directory", dir)
	}
	if errors.As(err, new(syscall.Errno)) {
		return nil, false, fmt.Errorf("open index: %w", err) // the disk or this process is in trouble, not the content of the file
	}
	aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	if renameErr := os.Rename(path, aside); renameErr != nil {
		return nil, false, fmt.Errorf("open index: %w", errors.Join(err, renameErr))
	}
	r, err = tryOpenRecords(path)
	return r, true, err
}

func tryOpenRecords(path string) (r *records, err error) {
	var db *bbolt.DB
	err = guarded(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mappedSize, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		if db.View(readAll) == nil {
			return nil // without having written anything, so that a start works on a full disk
		}
		if err := db.Update(makeBuckets); err != nil {
			return err
		}
		return db.View(readAll)
	})
	switch {
	case errors.Is(err, errDamaged):
		// bbolt may hold its own lock for ever after a panic, and then Close would hang: the file is left open.
		return nil, err
	case err != nil && db != nil:
		return nil, errors.Join(err, db.Close())
	case err != nil:
		return nil, err
	}
	r = &records{db: db, queue: make(chan []change, 256), done: make(chan struct{}), backlog: make(backlog)}
	go r.commitLoop()
	return r, nil
}

// guarded calls do and turns panics into errors, faults of memory access included.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return do()
}

func makeBuckets(tx *bbolt.Tx) error {
	_, err := tx.CreateBucketIfNotExists(blobsBucket)
	_, err2 := tx.CreateBucketIfNotExists(usedBucket)
	return errors.Join(err, err2)
}

// readAll visits every page with records, so that damage shows now, while the file can still be set aside.
func readAll(tx *bbolt.Tx) error {
	for _, name := range [][]byte{blobsBucket, usedBucket} {
		b := tx.Bucket(name)
		if b == nil {
			return fmt.Errorf("%w: it has no bucket %s", errDamaged, name)
		}
		err := b.ForEach(func(k, v []byte) error {
			if len(k) == 0 || v == nil {
				return fmt.Errorf("%w: bucket %s has a key %x without a record", errDamaged, name, k)
			}
			_ = v[len(v)-1]
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// flush waits for queued changes, and tries again what could not be written so far.
func (r *records) flush() error { return r.apply([]change{{}}) }

// close waits for queued changes and closes the file. Later changes get ErrClosed. After a panic bbolt may hold its own
// lock for ever, so the file is left open then, until the process ends.
func (r *records) close() error {
	r.closing.Lock()
	r.closed = true
	r.closing.Unlock()
	close(r.queue)
	<-r.done
	if r.broken != nil {
		return r.broken
	}
	return errors.Join(r.write(nil), r.db.Close())
}

// load calls visit for each record. Records of another version or shape are passed over: the sweep finds the content
// again by its file.
func (r *records) load(visit func(record)) error {
	return guarded(func() error {
		return r.db.View(func(tx *bbolt.Tx) error {
			used := newFollower(tx.Bucket(usedBucket))
			return tx.Bucket(blobsBucket).ForEach(func(k, v []byte) error {
				if rec, ok := decodeRecord(k, v); ok {
					if u := used.at(k); len(u) == 8 {
						rec.use = Use(binary.LittleEndian.Uint64(u))
					}
					visit(rec)
				}
				return nil
			})
		})
	})
}

// follower reads a bucket alongside another that is walked: its keys are in the same order, so a step replaces a search
// from the root. With a million records that is a second of the start.
type follower struct {
	cursor     *bbolt.Cursor
	key, value []byte
}

func newFollower(b *bbolt.Bucket) *follower {
	f := &follower{cursor: b.Cursor()}
	f.key, f.value = f.cursor.First()
	return f
}

// at returns the value of key, or nil. Each call names a later key than the one before.
func (f *follower) at(key []byte) []byte {
	for f.key != nil && bytes.Compare(f.key, key) < 0 {
		f.key, f.value = f.cursor.Next()
	}
	if !bytes.Equal(f.key, key) {
		return nil
	}
	return f.value
}

// put makes complete content durable in the index; it returns when the records are on the disk. After an error that is
// tried again with later changes.
func (r *records) put(recs ...record) error {
	changes := make([]change, 0, len(recs))
	for _, rec := range recs {
		changes = append(changes, change{bucket: blobsBucket, key: rec.digest.Binary(), value: encodeRecord(rec)})
	}
	return r.apply(changes)
}

// remove deletes the records of content that is about to be unlinked; it returns when that is on the disk. After an error
// that is tried again with later changes.
func (r *records) remove(digests []oci.Digest) error {
	changes := make([]change, 0, 2*len(digests))
	for _, d := range digests {
		key := d.Binary()
		changes = append(changes, change{bucket: blobsBucket, key: key}, change{bucket: usedBucket, key: key})
	}
	return r.apply(changes)
}

// touch writes out how contents were used.
func (r *records) touch(used map[oci.Digest]Use) error {
	changes := make([]change, 0, len(used))
	for d, use := range used {
		changes = append(changes, change{bucket: usedBucket, key: d.Binary(), value: binary.LittleEndian.AppendUint64(nil, uint64(use))})
	}
	return r.apply(changes)
}

func (r *records) apply(changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	result := make(chan error, 1)
	changes[len(changes)-1].result = result
	if !r.enqueue(changes) {
		return ErrClosed
	}
	return <-result
}

func (r *records) enqueue(changes []change) bool {
	r.closing.RLock()
	defer r.closing.RUnlock()
	if r.closed {
		return false
	}
	r.queue <- changes
	return true
}

// commitLoop is the one writer.
func (r *records) commitLoop() {
	defer close(r.done)
	for batch := range r.queue {
		for len(batch) < batchLimit {
			more, ok := r.next()
			if !ok {
				break
			}
			batch = append(batch, more...)
		}
		r.commit(batch)
	}
}

func (r *records) next() ([]change, bool) {
	select {
	case more, ok := <-r.queue:
		return more, ok
	default:
		return nil, false
	}
}

func (r *records) commit(batch []change) {
	err := r.write(batch)
	for _, c := range batch {
		if c.result != nil {
			c.result <- err
		}
	}
}

// write puts a batch, and what is left of those before, into one transaction. Nothing is written any more after a panic.
func (r *records) write(batch []change) error {
	if r.broken != nil {
		return r.broken
	}
	ordered := r.backlog.before(batch)
	if len(ordered) == 0 {
		return nil
	}
	err := guarded(func() error { return r.transact(ordered) })
	switch {
	case errors.Is(err, errDamaged):
		r.broken = err
	case err != nil:
		r.backlog.add(batch)
		err = fmt.Errorf("write index: %w", err)
	default:
		clear(r.backlog)
	}
	return err
}

func (r *records) transact(ordered []change) error {
	if err := r.try(); err != nil {
		return err
	}
	err := r.db.Update(func(tx *bbolt.Tx) error {
		for _, c := range ordered {
			if err := c.write(tx); err != nil {
				return err
			}
		}
		return r.try()
	})
	if err != nil {
		return err
	}
	return r.try()
}

func (r *records) try() error {
	if r.fault == nil {
		return nil
	}
	return r.fault(opIndex)
}

func (c change) write(tx *bbolt.Tx) error {
	b := tx.Bucket(c.bucket)
	switch {
	case c.value == nil:
		return b.Delete(c.key)
	case bytes.Equal(c.bucket, usedBucket) && tx.Bucket(blobsBucket).Get(c.key) == nil:
		return nil // the content was removed since its use was noted
	}
	return b.Put(c.key, c.value)
}

func encodeRecord(rec record) []byte {
	b := make([]byte, 0, recordSize)
	b = append(b, recordVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(rec.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(rec.stored))
	return binary.LittleEndian.AppendUint64(b, uint64(rec.stamp))
}

func decodeRecord(key, value []byte) (record, bool) {
	d, err := oci.DigestFromBinary(key)
	if err != nil || !recordShape(value) {
		return record{}, false
	}
	rec := record{
		digest: d,
		size:   int64(binary.LittleEndian.Uint64(value[1:])),
		stored: int64(binary.LittleEndian.Uint64(value[9:])),
	}
	if value[0] == recordVersion {
		rec.stamp = int64(binary.LittleEndian.Uint64(value[17:]))
	}
	rec.use = FirstUse(rec.stored)
	return rec, rec.size >= 0
}

// recordShape reports whether a value has a version that is known, and its length.
func recordShape(value []byte) bool {
	switch len(value) {
	case recordSize:
		return value[0] == recordVersion
	case firstSize:
		return value[0] == firstVersion
	}
	return false
}
