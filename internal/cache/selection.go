package cache

import (
	"cmp"
	"math"
	"slices"
)

// selection keeps the coldest of what it is offered: enough for need bytes, and a bounded number more. It sorts now and
// then, which is cheaper than a heap: soon hardly anything is cold enough to be kept at all.
type selection[K any] struct {
	need   int64 // bytes
	kept   []rated[K]
	enough int     // sort when so many are kept
	bar    float64 // nothing that is worth as much as this is needed any more
}

// rated is a candidate with its worth.
type rated[K any] struct {
	Candidate[K]
	worth float64
}

// roomToSort is how many more than needed are kept before they are sorted again.
const roomToSort = 1024

func newSelection[K any](need int64) *selection[K] {
	return &selection[K]{need: need, enough: roomToSort, bar: math.Inf(1)}
}

func (s *selection[K]) offer(c Candidate[K]) {
	worth := c.Use.worth(c.Size)
	if worth >= s.bar {
		return
	}
	s.kept = append(s.kept, rated[K]{c, worth})
	if len(s.kept) >= s.enough {
		s.trim()
	}
}

// trim sorts what is kept, and gives up what is not needed.
func (s *selection[K]) trim() {
	slices.SortFunc(s.kept, func(a, b rated[K]) int { return cmp.Compare(a.worth, b.worth) })
	var bytes int64
	for i, r := range s.kept {
		bytes += r.Size
		if bytes >= s.need {
			s.kept, s.bar = s.kept[:i+1], r.worth
			break
		}
	}
	s.enough = 2*len(s.kept) + roomToSort
}
