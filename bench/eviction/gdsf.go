package main

import (
	"container/heap"
	"math"
)

// rated is content in the heap of gdsf.
type rated struct {
	blob
	uses   float64
	rating float64
	place  int
}

// ratings is a heap with the lowest rating first.
type ratings []*rated

func (r ratings) Len() int           { return len(r) }
func (r ratings) Less(a, b int) bool { return r[a].rating < r[b].rating }
func (r ratings) Swap(a, b int) {
	r[a], r[b] = r[b], r[a]
	r[a].place, r[b].place = a, b
}

// Push is for heap.
func (r *ratings) Push(x any) {
	x.(*rated).place = len(*r)
	*r = append(*r, x.(*rated))
}

// Pop is for heap.
func (r *ratings) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

// gdsf is Greedy-Dual-Size-Frequency: uses for a power of the size, above an age that rises to the rating of each victim.
type gdsf struct {
	limit, bytes int64
	power        float64
	age          float64
	known        map[int]*rated
	heap         ratings
}

func newGDSF(power float64) func(int64) policy {
	return func(limit int64) policy { return &gdsf{limit: limit, power: power, known: map[int]*rated{}} }
}

func (g *gdsf) use(b blob, _ int64) bool {
	r, ok := g.known[b.id]
	if !ok {
		g.bytes += b.size
		for g.bytes > g.limit && len(g.heap) > 0 {
			g.evict()
		}
		r = &rated{blob: b}
		g.known[b.id] = r
		heap.Push(&g.heap, r)
	}
	r.uses++
	r.rating = g.age + r.uses/math.Pow(float64(r.size), g.power)
	heap.Fix(&g.heap, r.place)
	return ok
}

func (g *gdsf) evict() {
	victim := heap.Pop(&g.heap).(*rated)
	g.age = victim.rating
	g.bytes -= victim.size
	delete(g.known, victim.id)
}
