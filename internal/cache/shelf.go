package cache

import (
	"os"
	"slices"
	"sync"
	"time"
)

// shelfFiles is how many files are kept open at most. A reader that finds one saves seven system calls, a twentieth of
// what a range of 1 MiB costs; content that is wanted often has one at hand with few.
const shelfFiles = 64

// shelfTime is how long a file lies on the shelf, and up to as long again: a node that is not asked for anything has no files
// open.
const shelfTime = 10 * time.Second

// shelf keeps files of complete content open from one reader to the next. Each belongs to one reader or lies here, so nobody
// counts readers. It knows content by its entry: one that was removed, and stored again, has another one.
//
// A file leaves with its entry (drop), so that removed content has its room back. Whether somebody has changed a file
// meanwhile is asked by whoever takes it, as with one that was just opened.
type shelf struct {
	mu     sync.Mutex // never held across a system call
	files  []shelved  // those put back last are at the end
	closed bool
	// clearing: clear is to be called.
	clearing bool
}

type shelved struct {
	entry *entry
	file  *os.File
	// old: it has been here since before the last clear.
	old bool
}

// take returns an open file of the content, which is the caller's now, or nil.
func (s *shelf) take(e *entry) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.files) - 1; i >= 0; i-- {
		if s.files[i].entry == e {
			file := s.files[i].file
			s.files = slices.Delete(s.files, i, i+1)
			return file
		}
	}
	return nil
}

// put takes a file back that nobody reads any more, and closes one that there is no place for.
func (s *shelf) put(e *entry, file *os.File) error {
	if surplus := s.keep(shelved{entry: e, file: file}); surplus != nil {
		return surplus.Close()
	}
	return nil
}

// keep returns the file that is to be closed in the place of f, or f itself.
func (s *shelf) keep(f shelved) (surplus *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || f.entry.gone.Load() { // set before drop looks here
		return f.file
	}
	if len(s.files) == shelfFiles {
		surplus = s.files[0].file
		s.files = slices.Delete(s.files, 0, 1)
	}
	s.files = append(s.files, f)
	if !s.clearing {
		s.clearing = true
		time.AfterFunc(shelfTime, s.clear)
	}
	return surplus
}

// clear closes what nobody has taken since it was last called, and sees to it that it is called again while there is anything.
func (s *shelf) clear() {
	for _, f := range s.withdrawOld() {
		_ = f.file.Close() // it was only read
	}
}

func (s *shelf) withdrawOld() []shelved {
	s.mu.Lock()
	defer s.mu.Unlock()
	young := slices.IndexFunc(s.files, func(f shelved) bool { return !f.old }) // behind all that are old
	if young < 0 {
		young = len(s.files)
	}
	old := slices.Clone(s.files[:young])
	s.files = slices.Delete(s.files, 0, young)
	for i := range s.files {
		s.files[i].old = true
	}
	if s.clearing = len(s.files) > 0; s.clearing {
		time.AfterFunc(shelfTime, s.clear)
	}
	return old
}

// drop closes the files of content that is gone.
func (s *shelf) drop(e *entry) {
	for file := s.take(e); file != nil; file = s.take(e) {
		_ = file.Close() // it was only read
	}
}

// close closes all files, and those that are put back later.
func (s *shelf) close() {
	s.mu.Lock()
	files := s.files
	s.files, s.closed = nil, true
	s.mu.Unlock()
	for _, f := range files {
		_ = f.file.Close() // it was only read
	}
}
