//go:build linux && !race

package server_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strconv"
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

// rangeAllocations is how often memory is asked for on behalf of one range of a file, from the request to the end of the answer.
const rangeAllocations = 10

// TestRangeAllocatesLittle, however long it is.
func TestRangeAllocatesLittle(t *testing.T) {
	h := newHarnessWith(t, options{level: slog.LevelWarn})
	layer := h.hub.AddBlob("org/app", pattern(4<<20))
	h.warm(request("GET", blobPath("org/app", layer)))
	for _, length := range []int{100, 3 << 20} {
		raw := request("GET", blobPath("org/app", layer), "Range: bytes=1000-"+strconv.Itoa(999+length))
		c, asked, answer := h.dial(), []byte(raw), make([]byte, 4<<20)
		round := func() {
			_, _ = c.Write(asked)
			got, all := 0, length
			for got < all {
				n, err := c.Read(answer[got:])
				if err != nil {
					t.Fatal(err)
				}
				if got == 0 { // the headers come first, and together
					all += bytes.Index(answer[:n], []byte("\r\n\r\n")) + 4
				}
				got += n
			}
			if !bytes.HasPrefix(answer, []byte("HTTP/1.1 206 ")) || got != all {
				t.Fatalf("%d bytes, want %d: %q", got, all, answer[:min(got, 300)])
			}
		}
		round() // which keeps the address read
		if got := testing.AllocsPerRun(500, round); got > rangeAllocations {
			t.Errorf("%v allocations for %d bytes, want at most %d", got, length, rangeAllocations)
		} else {
			t.Log(got)
		}
	}
}
