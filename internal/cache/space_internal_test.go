package cache

import (
	"testing"
	"time"
)

// TestFullAfterClockWasSetBack: a clock that was ahead does not keep the cache from storing for as long as it was.
func TestFullAfterClockWasSetBack(t *testing.T) {
	s := &space{}
	s.noteFull()
	if !s.isFull() {
		t.Error("not full after it was noted")
	}
	s.full.Store(time.Now().Add(time.Hour).UnixNano())
	if s.isFull() {
		t.Error("full for an hour")
	}
}
