package cache

import (
	"iter"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mirror/internal/oci"
)

// shardCount spreads the locks: one shard for each first byte of a digest, which is even. The records are read in the order
// of the digests, so that a start fills one shard after the other, each in the processor's cache.
const shardCount = 256

// entry is complete content in the disk tier.
type entry struct {
	size int64
	// stored is when the content was stored, in seconds since 1970, which fit until 2106.
	stored uint32
	// gone is set once the entry is out of the table, for the memory tier, which may still hold the content or take it.
	gone atomic.Bool
	// use is a Use: hits store it without a lock, and it is written out in batches. Of hits at once one may be lost, which
	// is harmless.
	use atomic.Uint64
	// stamp is when the file was last changed before it was verified (stampOf); zero when that is not known.
	stamp atomic.Int64
}

// newEntry returns the entry of the content that a record describes.
func newEntry(rec record) *entry {
	e := &entry{size: rec.size, stored: uint32(min(max(0, rec.stored), math.MaxUint32))}
	e.use.Store(uint64(rec.use))
	e.stamp.Store(rec.stamp)
	return e
}

// record returns the record of the content of d.
func (e *entry) record(d oci.Digest) record {
	return record{digest: d, size: e.size, stored: int64(e.stored), stamp: e.stamp.Load()}
}

// hit notes a use of the content.
func (e *entry) hit() {
	before := Use(e.use.Load())
	if after := before.Again(time.Now().Unix()); after != before {
		e.use.Store(uint64(after))
	}
}

// shard is a part of the table of all content. A digest is in entries, in fills, or unknown; it moves from fills to
// entries in one step under mu, so nobody sees a gap.
type shard struct {
	mu sync.RWMutex // never held across a system call
	// entries is what a million blobs cost. A pointer takes less room here than the entry: a Go map is half empty at times.
	entries oci.DigestMap[*entry]
	fills   map[oci.Digest]*fill
	// parts holds what failed fills had received, for the next fill of the digest.
	parts map[oci.Digest]*part
	// pins is what must not be evicted, stored or not.
	pins map[oci.Digest]struct{}
}

// index is the table of all content, in memory. The bbolt file (records.go) is its durable copy.
type index struct {
	shards [shardCount]shard
	// bytes and blobs count the entries, pinnedBytes those that are pinned.
	bytes, blobs, pinnedBytes atomic.Int64
}

func newIndex() *index {
	x := new(index)
	for i := range x.shards {
		x.shards[i].fills = make(map[oci.Digest]*fill)
		x.shards[i].parts = make(map[oci.Digest]*part)
		x.shards[i].pins = make(map[oci.Digest]struct{})
	}
	return x
}

func (x *index) shard(d oci.Digest) *shard { return &x.shards[d.Sum64()>>56] }

// find returns the complete content or the running fill of d; at most one of them is set.
func (x *index) find(d oci.Digest) (*entry, *fill) {
	s := x.shard(d)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.entryLocked(d), s.fills[d]
}

// entryLocked returns the entry of d, or nil.
func (s *shard) entryLocked(d oci.Digest) *entry {
	e, _ := s.entries.Get(d)
	return e
}

// put makes content of size known as complete, unless it is known already or a fill of it runs.
func (x *index) put(d oci.Digest, e *entry) bool {
	s := x.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entryLocked(d) != nil || s.fills[d] != nil {
		return false
	}
	x.addLocked(s, d, e)
	return true
}

func (x *index) addLocked(s *shard, d oci.Digest, e *entry) {
	s.entries.Set(d, e)
	x.countLocked(s, d, 1, e.size)
}

// take removes the entry e of d and reports whether it was still there.
func (x *index) take(d oci.Digest, e *entry) bool {
	s := x.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	return x.takeLocked(s, d, e)
}

// takeUnpinned is take for an eviction: what was pinned since it was chosen stays.
func (x *index) takeUnpinned(d oci.Digest, e *entry) bool {
	s := x.shard(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.pinnedLocked(d) && x.takeLocked(s, d, e)
}

func (x *index) takeLocked(s *shard, d oci.Digest, e *entry) bool {
	if s.entryLocked(d) != e {
		return false
	}
	s.entries.Delete(d)
	e.gone.Store(true)
	x.countLocked(s, d, -1, -e.size)
	return true
}

// countLocked counts an entry of d that came or went.
func (x *index) countLocked(s *shard, d oci.Digest, blobs, bytes int64) {
	x.blobs.Add(blobs)
	x.bytes.Add(bytes)
	if s.pinnedLocked(d) {
		x.pinnedBytes.Add(bytes)
	}
}

// each calls visit for all complete content, shard by shard; the shard's lock is held meanwhile, so visit is short.
func (x *index) each(visit func(oci.Digest, *entry)) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		for d, e := range s.entries.All() {
			visit(d, e)
		}
		s.mu.RUnlock()
	}
}

// candidates returns all that may be evicted. It holds the lock of a shard only while it copies that.
func (x *index) candidates() iter.Seq[Candidate[victim]] {
	return func(yield func(Candidate[victim]) bool) {
		var batch []Candidate[victim]
		for i := range x.shards {
			batch = x.shards[i].appendCandidates(batch[:0])
			for _, c := range batch {
				if !yield(c) {
					return
				}
			}
		}
	}
}

func (s *shard) appendCandidates(to []Candidate[victim]) []Candidate[victim] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for d, e := range s.entries.All() {
		if !s.pinnedLocked(d) {
			to = append(to, Candidate[victim]{victim{d, e}, e.size, Use(e.use.Load())})
		}
	}
	return to
}

// contents returns the complete content of a shard as it is now.
func (s *shard) contents() []victim {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]victim, 0, s.entries.Len())
	for d, e := range s.entries.All() {
		all = append(all, victim{digest: d, entry: e})
	}
	return all
}

// eachFill calls visit for all running fills, outside of every lock.
func (x *index) eachFill(visit func(*fill)) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		fills := slices.Collect(maps.Values(s.fills))
		s.mu.RUnlock()
		for _, f := range fills {
			visit(f)
		}
	}
}
