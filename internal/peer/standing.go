package peer

import (
	"sync"
	"time"
)

// standing is what a node says about its own fitness. Each change is a broadcast to the whole cluster and moves ownership,
// so a value that goes to and fro must not be told each time: bad news counts at once, good news when it has lasted.
type standing struct {
	mu      sync.Mutex
	refuses settling[Refusal]
	room    settling[Room]
	wake    chan struct{} // holds one: something was set
}

// settling is a value as it is, and as the cluster was told.
type settling[T comparable] struct {
	now, told T
	since     time.Time // when now was set
}

func newStanding() *standing { return &standing{wake: make(chan struct{}, 1)} }

// set changes the value.
func (s *settling[T]) set(value T) {
	if s.now != value {
		s.now, s.since = value, time.Now()
	}
}

// settle takes over a value that has lasted, and returns how long one that has not still needs.
func (s *settling[T]) settle(after time.Duration) time.Duration {
	if s.now == s.told {
		return 0
	}
	if left := after - time.Since(s.since); left > 0 {
		return left
	}
	s.told = s.now
	return 0
}

// refuse sets or withdraws a reason.
func (s *standing) refuse(why Refusal, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.refuses.set(s.refuses.now | why)
	} else {
		s.refuses.set(s.refuses.now &^ why)
	}
	s.rouse()
}

// have sets the room class.
func (s *standing) have(room Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room.set(room)
	s.rouse()
}

func (s *standing) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already, and will see this change too
	}
}

// told returns what the cluster was told last.
func (s *standing) told() (Refusal, Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuses.told, s.room.told
}

// settle decides what the cluster is told now. changed says that it is something new, and wait when to ask again; zero is
// when something was set. That a node is no longer young was foreseen and needs no time to settle.
func (s *standing) settle(after time.Duration) (changed bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuses, room := s.refuses.told, s.room.told
	s.refuses.told |= s.refuses.now
	s.refuses.told &= s.refuses.now | ^Young
	wait = s.refuses.settle(after)
	if left := s.room.settle(after); wait == 0 || left > 0 && left < wait {
		wait = left
	}
	return refuses != s.refuses.told || room != s.room.told, wait
}
