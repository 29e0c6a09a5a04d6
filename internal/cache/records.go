package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"mirror/internal/oci"
)

// The bbolt schema. Keys are digests in their binary form, values little-endian.
var (
	// blobsBucket: digest -> version byte, size (8 bytes), when stored (8 bytes, seconds since 1970).
	blobsBucket = []byte("blobs")
	// usedBucket: digest -> when last used (8 bytes, seconds since 1970). Apart from the record because it changes often.
	usedBucket = []byte("used")
)

const (
	recordVersion = 1
	recordSize    = 1 + 8 + 8
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
	used   int64
}

// change puts or deletes (value nil) one key.
type change struct {
	bucket, key, value []byte
	result             chan<- error // nil when nobody waits
}

// records is the durable copy of the index. All writes go through one goroutine, which puts all that wait into one
// transaction: bbolt syncs twice per transaction, and its own Batch adds 10 ms.
type records struct {
	db    *bbolt.DB
	queue chan []change
	done  chan struct{}

	closing sync.RWMutex // guards closed against changes that are being queued
	closed  bool
}

// openRecords opens or creates the index file. A file that cannot be read is set aside, as bbolt reports damage by
// errors and by panics alike; rebuild tells the caller to make the index anew from the content.
func openRecords(dir string) (r *records, rebuild bool, err error) {
	path := filepath.Join(dir, indexFile)
	_, statErr := os.Stat(path)
	r, err = tryOpenRecords(path)
	if err == nil {
		return r, errors.Is(statErr, os.ErrNotExist), nil
	}
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, false, fmt.Errorf("another process owns the data directory %s: stop it, or set cache.dir to another directory", dir)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, false, fmt.Errorf("open index: %w", err)
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
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("index is damaged: %v", p)
		}
		if err != nil && db != nil {
			_ = db.Close() // the error that brought us here says more
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mappedSize, NoStatistics: true,
	})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(blobsBucket)
		_, err2 := tx.CreateBucketIfNotExists(usedBucket)
		return errors.Join(err, err2)
	})
	if err != nil {
		return nil, err
	}
	r = &records{db: db, queue: make(chan []change, 256), done: make(chan struct{})}
	go r.commitLoop()
	return r, nil
}

// close waits for queued changes and closes the file. Later changes get ErrClosed.
func (r *records) close() error {
	r.closing.Lock()
	r.closed = true
	r.closing.Unlock()
	close(r.queue)
	<-r.done
	return r.db.Close()
}

// load calls visit for each record. Records of another version or shape are passed over: the sweep finds the content
// again by its file.
func (r *records) load(visit func(record)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("index is damaged: %v", p)
		}
	}()
	return r.db.View(func(tx *bbolt.Tx) error {
		used := tx.Bucket(usedBucket)
		return tx.Bucket(blobsBucket).ForEach(func(k, v []byte) error {
			if rec, ok := decodeRecord(k, v); ok {
				if u := used.Get(k); len(u) == 8 {
					rec.used = int64(binary.LittleEndian.Uint64(u))
				}
				visit(rec)
			}
			return nil
		})
	})
}

// put makes complete content durable in the index; it returns when the record is on the disk.
func (r *records) put(rec record) error {
	return r.apply([]change{{bucket: blobsBucket, key: rec.digest.Binary(), value: encodeRecord(rec)}})
}

// remove deletes the records of content that is about to be unlinked; it returns when that is on the disk.
func (r *records) remove(digests []oci.Digest) error {
	changes := make([]change, 0, 2*len(digests))
	for _, d := range digests {
		key := d.Binary()
		changes = append(changes, change{bucket: blobsBucket, key: key}, change{bucket: usedBucket, key: key})
	}
	return r.apply(changes)
}

// touch writes out when contents were last used.
func (r *records) touch(used map[oci.Digest]int64) error {
	changes := make([]change, 0, len(used))
	for d, at := range used {
		changes = append(changes, change{bucket: usedBucket, key: d.Binary(), value: binary.LittleEndian.AppendUint64(nil, uint64(at))})
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

// write puts a batch into one transaction, in key order because bbolt then touches each page once. The sort is stable:
// of two changes to one key the later one wins.
func (r *records) write(batch []change) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("index is damaged: %v", p)
		}
	}()
	ordered := slices.Clone(batch)
	slices.SortStableFunc(ordered, func(a, b change) int { return bytes.Compare(a.key, b.key) })
	return r.db.Update(func(tx *bbolt.Tx) error {
		for _, c := range ordered {
			b := tx.Bucket(c.bucket)
			if c.value == nil {
				if err := b.Delete(c.key); err != nil {
					return err
				}
			} else if err := b.Put(c.key, c.value); err != nil {
				return err
			}
		}
		return nil
	})
}

func encodeRecord(rec record) []byte {
	b := make([]byte, 0, recordSize)
	b = append(b, recordVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(rec.size))
	return binary.LittleEndian.AppendUint64(b, uint64(rec.stored))
}

func decodeRecord(key, value []byte) (record, bool) {
	d, err := oci.DigestFromBinary(key)
	if err != nil || len(value) != recordSize || value[0] != recordVersion {
		return record{}, false
	}
	rec := record{
		digest: d,
		size:   int64(binary.LittleEndian.Uint64(value[1:])),
		stored: int64(binary.LittleEndian.Uint64(value[9:])),
	}
	rec.used = rec.stored
	return rec, rec.size >= 0
}
