package cache

import (
	"cmp"
	"math"
	"slices"
)

// Span is the half-open range of bytes [Start, End) of a blob. Where a Span is a wish for bytes, an End of -1 means "to
// the end, wherever that is".
type Span struct {
	Start, End int64
}

// Len returns the number of bytes of the span.
func (s Span) Len() int64 { return s.End - s.Start }

// spans is a set of bytes, kept as sorted spans that neither overlap nor touch. A blob has few of them: one per place at
// which a fetch started and that no other fetch has reached yet.
type spans []Span

// add puts [s.Start, s.End) into the set.
func (p *spans) add(s Span) {
	if s.End <= s.Start {
		return
	}
	// All spans in [from, to) overlap or touch s and melt into it.
	from, _ := slices.BinarySearchFunc(*p, s.Start, func(e Span, start int64) int { return cmp.Compare(e.End, start) })
	to := from
	for to < len(*p) && (*p)[to].Start <= s.End {
		s.Start, s.End = min(s.Start, (*p)[to].Start), max(s.End, (*p)[to].End)
		to++
	}
	*p = slices.Replace(*p, from, to, s)
}

// endFrom returns the end of the present bytes that begin at off, which is off itself when the byte at off is missing.
// It is the first missing byte at or after off.
func (p spans) endFrom(off int64) int64 {
	i, _ := slices.BinarySearchFunc(p, off, func(e Span, off int64) int {
		if e.End <= off {
			return -1
		}
		return 1
	})
	if i < len(p) && p[i].Start <= off {
		return p[i].End
	}
	return off
}

// startAfter returns where the first present bytes beyond the missing byte at off begin, or the largest int64.
func (p spans) startAfter(off int64) int64 {
	i, _ := slices.BinarySearchFunc(p, off, func(e Span, off int64) int { return cmp.Compare(e.Start, off) })
	if i < len(p) {
		return p[i].Start
	}
	return math.MaxInt64
}

// lengthBefore returns how many present bytes end at the missing byte at off.
func (p spans) lengthBefore(off int64) int64 {
	i, found := slices.BinarySearchFunc(p, off, func(e Span, off int64) int { return cmp.Compare(e.End, off) })
	if !found {
		return 0
	}
	return p[i].Len()
}

// endBefore returns where the last present bytes before the missing byte at off end, or zero.
func (p spans) endBefore(off int64) int64 {
	i, _ := slices.BinarySearchFunc(p, off, func(e Span, off int64) int { return cmp.Compare(e.Start, off) })
	if i == 0 {
		return 0
	}
	return p[i-1].End
}

// end returns the end of the last present bytes, or zero.
func (p spans) end() int64 {
	if len(p) == 0 {
		return 0
	}
	return p[len(p)-1].End
}

// gaps returns the missing bytes before the end of the last present ones.
func (p spans) gaps() []Span {
	var gaps []Span
	end := int64(0)
	for _, s := range p {
		if s.Start > end {
			gaps = append(gaps, Span{end, s.Start})
		}
		end = s.End
	}
	return gaps
}

// total returns how many bytes are present.
func (p spans) total() int64 {
	var n int64
	for _, s := range p {
		n += s.Len()
	}
	return n
}
