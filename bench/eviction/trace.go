package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// The shape of the traces. Sizes and shares are those that public studies of registries report in order of magnitude:
// most layers are a few MiB, few are hundreds, and a few bases are below most images.
const (
	images       = 1500
	bases        = 40
	days         = 14
	pullsPerDay  = 1500
	nodes        = 40
	zipf         = 0.9
	day          = 24 * 3600
	warmUp       = 4 * day // of which nothing is counted
	scanStart    = 9 * day
	scanSeconds  = 4 * 3600
	rollouts     = 30 // a day
	rolloutNodes = 100
	rolloutTime  = 900
	// A large image comes each day, is pulled by one node, and by the others later within the hour.
	largeLayers = 10
	largeNodes  = 50
	largePause  = 300
	largeTime   = 3600
	// epoch is where time begins, so that no policy sees a time before 1970.
	epoch = 1_700_000_000
)

// blob is content in a trace.
type blob struct {
	id   int
	size int64
}

// request asks for a blob at a time in seconds. Only those that count go into the ratios.
type request struct {
	at int64
	blob
	counts bool
}

// image is a manifest and a config, then layers from the lowest to the highest.
type image []blob

// registry makes images, and pulls of them.
type registry struct {
	random *rand.Rand
	next   int
	bases  [][]blob
	images []image
	weight []float64 // cumulated, by image
	order  []int     // image by rank, most popular first
	pulled []map[int]int64
	trace  []request
}

func newRegistry(seed uint64) *registry {
	r := &registry{random: rand.New(rand.NewPCG(seed, 0)), pulled: make([]map[int]int64, nodes)}
	for i := range r.pulled {
		r.pulled[i] = make(map[int]int64)
	}
	for range bases {
		r.bases = append(r.bases, r.layers(1+r.random.IntN(3), 25e6))
	}
	sum := 0.0
	for i := range images {
		r.images = append(r.images, r.image())
		sum += math.Pow(float64(i+1), -zipf)
		r.weight = append(r.weight, sum)
	}
	r.order = r.random.Perm(images)
	return r
}

func (r *registry) blob(size float64) blob {
	r.next++
	return blob{r.next, int64(size)}
}

// layers makes n layers with log-normal sizes around a median in bytes.
func (r *registry) layers(n int, median float64) []blob {
	var made []blob
	for range n {
		made = append(made, r.blob(min(1e9, median*math.Exp(1.1*r.random.NormFloat64()))))
	}
	return made
}

// image makes an image; low bases are below more images than high ones.
func (r *registry) image() image {
	base := r.bases[int(bases*math.Pow(r.random.Float64(), 3))]
	return slices.Concat(r.top(), base, r.layers(2+r.random.IntN(6), 4e6))
}

func (r *registry) top() []blob {
	return []blob{r.blob(1000 + 3000*r.random.Float64()), r.blob(3000 + 12000*r.random.Float64())}
}

// bytes is what all images have together.
func (r *registry) bytes() int64 {
	seen := make(map[int]bool)
	var sum int64
	for _, i := range r.images {
		for _, b := range i {
			if !seen[b.id] {
				sum += b.size
			}
			seen[b.id] = true
		}
	}
	return sum
}

// popular draws an image by popularity.
func (r *registry) popular() int {
	rank := sort.SearchFloat64s(r.weight, r.random.Float64()*r.weight[images-1])
	return r.order[rank]
}

// pull asks for all of an image, each blob seconds after the one before.
func (r *registry) pull(at int64, i image, has map[int]int64) {
	for n, b := range i {
		last, known := has[b.id]
		if n >= 2 && known && at-last < 2*day {
			continue // the node has the layer still
		}
		if has != nil {
			has[b.id] = at
		}
		r.trace = append(r.trace, request{epoch + at + int64(n), b, at >= warmUp})
	}
}

// daily is the work of each day: half of the pulls come from nodes that keep layers for two days, half from machines that
// have nothing yet.
func (r *registry) daily(first, last int64) {
	for at := first; at < last; at += day / pullsPerDay {
		var has map[int]int64
		if r.random.IntN(2) == 0 {
			has = r.pulled[r.random.IntN(nodes)]
		}
		r.pull(at, r.images[r.popular()], has)
	}
}

// dailyTrace is the daily set alone.
func dailyTrace(seed uint64) []request {
	r := newRegistry(seed)
	r.daily(0, days*day)
	return r.sorted()
}

// scanTrace is the daily set and one pass over images of total bytes that nobody else wants. Only the daily set counts, from
// the start of the scan for a day.
func scanTrace(seed uint64, total int64) []request {
	r := newRegistry(seed)
	r.daily(0, days*day)
	for i := range r.trace {
		since := r.trace[i].at - epoch - scanStart
		r.trace[i].counts = since >= 0 && since < day
	}
	var scanned int64
	for scanned < total {
		at := scanStart + int64(float64(scanSeconds)*float64(scanned)/float64(total))
		for n, b := range slices.Concat(r.top(), r.layers(2+r.random.IntN(6), 8e6)) {
			scanned += b.size
			r.trace = append(r.trace, request{epoch + at + int64(n), b, false})
		}
	}
	return r.sorted()
}

// rolloutTrace replaces popular images each day; a hundred nodes pull each new version within a quarter of an hour, and
// nobody asks for the old one any more.
func rolloutTrace(seed uint64) []request {
	r := newRegistry(seed)
	for d := int64(0); d < days; d++ {
		for n := int64(0); n < rollouts; n++ {
			from := d*day + n*day/rollouts
			r.daily(from, from+day/rollouts)
			r.rollOut(from)
		}
	}
	return r.sorted()
}

func (r *registry) rollOut(at int64) {
	chosen := r.popular()
	old := r.images[chosen]
	kept := old[2 : len(old)-2]
	r.images[chosen] = slices.Concat(r.top(), kept, r.layers(2, 4e6))
	for range rolloutNodes {
		r.pull(at+r.random.Int64N(rolloutTime), r.images[chosen], r.pulled[r.random.IntN(nodes)])
	}
}

// largeTrace is the daily set, and each day a new image of 15 to 30 percent of the cache. Only the pulls of those images
// count; at best one of largeNodes misses.
func largeTrace(seed uint64, limit int64) []request {
	r := newRegistry(seed)
	r.daily(0, days*day)
	for i := range r.trace {
		r.trace[i].counts = false
	}
	for d := int64(0); d < days; d++ {
		r.rollOutLarge(d*day+day/2, float64(limit)*(0.15+0.15*r.random.Float64()))
	}
	return r.sorted()
}

// rollOutLarge lets all nodes pull a new image of size bytes.
func (r *registry) rollOutLarge(at int64, size float64) {
	layers := r.layers(largeLayers, 1e6)
	var sum int64
	for _, l := range layers {
		sum += l.size
	}
	for i := range layers {
		layers[i].size = int64(size * float64(layers[i].size) / float64(sum))
	}
	large := slices.Concat(r.top(), layers)
	r.pull(at, large, nil)
	for range largeNodes - 1 {
		r.pull(at+largePause+r.random.Int64N(largeTime-largePause), large, nil)
	}
}

func (r *registry) sorted() []request {
	slices.SortStableFunc(r.trace, func(a, b request) int { return int(a.at - b.at) })
	return r.trace
}
