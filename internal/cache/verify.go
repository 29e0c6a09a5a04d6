package cache

import (
	"errors"
	"sync"
	"time"

	"mirror/internal/oci"
)

// The hash of a fill follows the bytes that are present from the start without a gap. One goroutine at a time feeds it
// (fill.hashing): a fetch that has just stored the next bytes, or a follower that reads what others stored further on.

// claimHashLocked makes the caller, who has just stored bytes from pos on, the one who hashes, if those bytes are next.
// Otherwise it starts a follower when there is something to follow.
func (f *fill) claimHashLocked(pos int64) bool {
	if f.hashing {
		return false // whoever hashes now looks again before it stops
	}
	if f.part.hashed == pos {
		f.hashing = true
		return true
	}
	f.followLocked()
	return false
}

// hashInline hashes bytes that are next, then lets go of the hash.
func (f *fill) hashInline(b []byte) {
	_, _ = f.part.hash.Write(b) // a hash never returns an error
	f.mu.Lock()
	defer f.mu.Unlock()
	f.part.hashedMore(int64(len(b)))
	f.hashing = false
	f.followLocked()
	f.settleLocked()
}

// followLocked starts a follower if bytes are present that nobody has hashed and nobody is hashing.
func (f *fill) followLocked() {
	if f.hashing || f.part.hashed >= f.part.prefix() {
		return
	}
	f.hashing = true
	f.fetching.Add(1)
	go f.follow()
}

// follow hashes from the partial file until it has caught up.
func (f *fill) follow() {
	defer f.fetching.Done()
	buf := f.cache.buffers.Get().(*[]byte)
	defer f.cache.buffers.Put(buf)
	for {
		from, to, ok := f.nextToHash()
		if !ok {
			return
		}
		b := (*buf)[:min(int64(len(*buf)), to-from)]
		if err := f.cache.disk.readAt(f.part.file, b, from); err != nil {
			f.mu.Lock()
			f.hashing = false
			f.stopLocked(diskError("read partial file", err))
			f.mu.Unlock()
			return
		}
		_, _ = f.part.hash.Write(b)
		f.mu.Lock()
		f.part.hashedMore(int64(len(b)))
		f.mu.Unlock()
	}
}

// nextToHash returns what is present and not hashed; when that is nothing, the caller no longer holds the hash.
func (f *fill) nextToHash() (from, to int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to = f.part.hashed, f.part.prefix()
	if from < to && !f.stopped {
		return from, to, true
	}
	f.hashing = false
	f.settleLocked()
	return 0, 0, false
}

// fatal reports whether an error of one fetch is the error of the fill, whatever other fetches do.
func fatal(err error) bool {
	return errors.Is(err, ErrWrongContent) || errors.Is(err, ErrDisk) || errors.Is(err, ErrNoRoom)
}

const (
	// suspectFor is how long a digest stays suspect after wrong bytes: long enough for a client's retries, which resume in
	// the middle and would otherwise assemble the rest of a wrong body.
	suspectFor = time.Minute
	// suspectCount bounds the memory for suspects.
	suspectCount = 10_000
)

// suspects remembers digests for which wrong bytes came a moment ago. Their next fill lets nothing out before the verdict.
type suspects struct {
	mu    sync.Mutex
	until map[oci.Digest]time.Time
}

func (s *suspects) add(d oci.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for other, until := range s.until {
		if len(s.until) >= suspectCount || until.Before(now) {
			delete(s.until, other)
		}
	}
	s.until[d] = now.Add(suspectFor)
}

func (s *suspects) has(d oci.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.until[d])
}

func (s *suspects) clear(d oci.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, d)
}
