package main

import "container/list"

// item is content that a policy keeps, or remembers.
type item struct {
	blob
	uses int // saturating, as each policy has it
	hot  bool
}

// queue is a list of items, newest first, and their bytes.
type queue struct {
	list.List
	bytes int64
}

func (q *queue) push(i *item) *list.Element {
	q.bytes += i.size
	return q.PushFront(i)
}

// take removes an element.
func (q *queue) take(e *list.Element) *item {
	i := q.Remove(e).(*item)
	q.bytes -= i.size
	return i
}

// segmented is a segmented LRU: what is asked for again moves to the hot segment, which has a part of the limit. With no
// hot segment it is plain LRU.
type segmented struct {
	limit, hotLimit int64
	cold, hot       queue
	known           map[int]*list.Element
}

func newLRU(limit int64) policy { return &segmented{limit: limit, known: map[int]*list.Element{}} }

func newSLRU(limit int64) policy {
	return &segmented{limit: limit, hotLimit: limit / 5 * 4, known: map[int]*list.Element{}}
}

func (s *segmented) use(b blob, _ int64) bool {
	e, ok := s.known[b.id]
	if !ok {
		s.known[b.id] = s.cold.push(&item{blob: b})
		s.trim()
		return false
	}
	i := s.of(e).take(e)
	i.hot = s.hotLimit > 0
	if i.hot {
		s.known[b.id] = s.hot.push(i)
	} else {
		s.known[b.id] = s.cold.push(i)
	}
	s.trim()
	return true
}

func (s *segmented) of(e *list.Element) *queue {
	if e.Value.(*item).hot {
		return &s.hot
	}
	return &s.cold
}

func (s *segmented) trim() {
	for s.hot.bytes > s.hotLimit {
		i := s.hot.take(s.hot.Back())
		i.hot = false
		s.known[i.id] = s.cold.push(i)
	}
	for s.hot.bytes+s.cold.bytes > s.limit {
		delete(s.known, s.cold.take(s.cold.Back()).id)
	}
}

// s3fifo is S3-FIFO (Yang and others, 2023): a small queue for what is new, a main queue, and a memory of what left the
// small one; sizes in bytes.
type s3fifo struct {
	limit              int64
	small, main, ghost queue
	known              map[int]*list.Element // in small or main
	ghosts             map[int]*list.Element
}

func newS3FIFO(limit int64) policy {
	return &s3fifo{limit: limit, known: map[int]*list.Element{}, ghosts: map[int]*list.Element{}}
}

func (s *s3fifo) use(b blob, _ int64) bool {
	if e, ok := s.known[b.id]; ok {
		i := e.Value.(*item)
		i.uses = min(3, i.uses+1)
		return true
	}
	if e, ok := s.ghosts[b.id]; ok {
		s.ghost.take(e)
		delete(s.ghosts, b.id)
		s.known[b.id] = s.main.push(&item{blob: b})
	} else {
		s.known[b.id] = s.small.push(&item{blob: b})
	}
	for s.small.bytes+s.main.bytes > s.limit {
		s.evict()
	}
	return false
}

func (s *s3fifo) evict() {
	if s.small.bytes > s.limit/10 || s.main.Len() == 0 {
		s.evictSmall()
		return
	}
	i := s.main.take(s.main.Back())
	if i.uses == 0 {
		delete(s.known, i.id)
		return
	}
	i.uses--
	s.known[i.id] = s.main.push(i)
}

func (s *s3fifo) evictSmall() {
	i := s.small.take(s.small.Back())
	if i.uses > 0 {
		i.uses = 0
		s.known[i.id] = s.main.push(i)
		return
	}
	delete(s.known, i.id)
	s.ghosts[i.id] = s.ghost.push(i)
	for s.ghost.bytes > s.limit/10*9 {
		delete(s.ghosts, s.ghost.take(s.ghost.Back()).id)
	}
}
