package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// garbageRoom is how many bytes of garbage may pile up between two collections, about. The runtime's own rule, as much as there is in
// use, makes a node with a full memory tier take twice its size. Contents have no pointers, so that collecting more often costs
// little. With 32 MiB an idle node took 45 MiB more, and hits were not cheaper.
const garbageRoom = 8 << 20

const (
	// leastGarbage and mostGarbage bound what that comes to in percent of what is in use.
	leastGarbage = 10
	mostGarbage  = 1600
)

// boundGarbage keeps the room for garbage the same whatever is in use. It leaves everything alone when the environment says something
// about it (GOGC, GOMEMLIMIT).
func boundGarbage() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	current := 100 // the runtime's own, until there is something in use
	afterEachCollection(func() {
		if want := garbagePercent(inUse()); want < current*9/10 || want > current*11/10 {
			current = want
			debug.SetGCPercent(want)
		}
	})
}

// garbagePercent returns the runtime's setting for so many bytes in use.
func garbagePercent(inUse uint64) int {
	return int(min(max(100*garbageRoom/max(inUse, 1), leastGarbage), mostGarbage))
}

// inUse is how many bytes the last collection has found in use, stacks included.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}

// afterEachCollection calls f after each garbage collection, for as long as the process lives.
func afterEachCollection(f func()) {
	mark := new([16]byte) // large enough to be an object of its own
	runtime.AddCleanup(mark, func(struct{}) {
		f()
		afterEachCollection(f)
	}, struct{}{})
}
