package cache

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestSpans compares spans with a plain array of bytes.
func TestSpans(t *testing.T) {
	const size = 100
	rapid.Check(t, func(t *rapid.T) {
		var p spans
		var present [size + 1]bool
		for range rapid.IntRange(1, 30).Draw(t, "spans") {
			from := rapid.Int64Range(0, size).Draw(t, "from")
			to := rapid.Int64Range(0, size).Draw(t, "to")
			p.add(Span{from, to})
			for i := from; i < to; i++ {
				present[i] = true
			}
			compareSpans(t, p, present[:])
		}
	})
}

func compareSpans(t *rapid.T, p spans, present []bool) {
	var total int64
	for off := range present {
		end := off
		for present[end] {
			end++
		}
		if got := p.endFrom(int64(off)); got != int64(end) {
			t.Fatalf("%v: present from %d up to %d, want %d", p, off, got, end)
		}
		if present[off] {
			total++
			continue
		}
		next := int64(math.MaxInt64)
		for i := off; i < len(present); i++ {
			if present[i] {
				next = int64(i)
				break
			}
		}
		if got := p.startAfter(int64(off)); got != next {
			t.Fatalf("%v: present again after %d at %d, want %d", p, off, got, next)
		}
		before := 0
		for before < off && present[off-before-1] {
			before++
		}
		if got := p.lengthBefore(int64(off)); got != int64(before) {
			t.Fatalf("%v: %d present before %d, want %d", p, got, off, before)
		}
	}
	missing := int64(0)
	for _, gap := range p.gaps() {
		if missing += gap.Len(); gap.Len() <= 0 || p.endFrom(gap.Start) != gap.Start || p.startAfter(gap.Start) != gap.End {
			t.Fatalf("%v: gap %v", p, gap)
		}
	}
	if len(p) > 0 && missing+total != p[len(p)-1].End {
		t.Fatalf("%v: gaps of %d bytes", p, missing)
	}
	if p.total() != total {
		t.Fatalf("%v: total %d, want %d", p, p.total(), total)
	}
	for i := 1; i < len(p); i++ {
		if p[i-1].End >= p[i].Start {
			t.Fatalf("%v: spans overlap, touch or are out of order", p)
		}
	}
}

// TestSpansAtTheEnd: the largest offset does not overflow.
func TestSpansAtTheEnd(t *testing.T) {
	p := spans{{0, 10}}
	if got := p.endFrom(math.MaxInt64); got != math.MaxInt64 {
		t.Errorf("got %d", got)
	}
	if got := p.startAfter(math.MaxInt64); got != math.MaxInt64 {
		t.Errorf("got %d", got)
	}
}
