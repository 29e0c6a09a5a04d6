//go:build linux && !race

package server_test

import (
	"log/slog"
	"slices"
	"testing"
)

// TestTurnAllocatesNothing, from the report of a request to the end of its answer. Under the race detector pools forget what they
// have at random.
func TestTurnAllocatesNothing(t *testing.T) {
	h := newHarnessWith(t, options{level: slog.LevelWarn})
	h.hub.AddImage("org/app", "1", 100)
	manifest := request("GET", manifestPath("org/app", "1"))
	h.warm(manifest)
	c := h.asked(manifest)
	raw, answer := []byte(manifest), make([]byte, 4096)
	round := func() {
		_, _ = c.Write(raw)
		if n, err := c.Read(answer); err != nil || !slices.Equal(answer[:15], []byte("HTTP/1.1 200 OK")) {
			t.Fatalf("%q, %v", answer[:n], err)
		}
	}
	round() // which keeps the address read
	if got := testing.AllocsPerRun(2000, round); got > 0 {
		t.Errorf("%v allocations", got)
	}
}
