package main

import (
	"runtime"
	"testing"
	"time"
)

func TestGarbagePercent(t *testing.T) {
	f := func(inUse uint64, want int) {
		t.Helper()
		if got := garbagePercent(inUse); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", inUse, got, want)
		}
	}
	f(0, mostGarbage)
	f(4<<20, 200)
	f(8<<20, 100)
	f(64<<20, 12)
	f(4<<30, leastGarbage)
}

func TestAfterEachCollection(t *testing.T) {
	seen := make(chan struct{}, 100)
	afterEachCollection(func() {
		select {
		case seen <- struct{}{}:
		default:
		}
	})
	for range 3 {
		runtime.GC()
		select {
		case <-seen:
		case <-time.After(10 * time.Second):
			t.Fatal("a collection was not seen")
		}
	}
}
