package upstream

import "time"

// Budget says how much of an upstream's rate limit is left.
type Budget struct {
	// Left is the part that is left, from 0 to 1. It is 1 when the upstream told of no limit. Between two answers it grows
	// as the limit's window passes, so that what was told once is not believed for ever.
	Left float64
	// Until is when manifests may be asked for again; zero means that they may be now.
	Until time.Time
}

// Exhausted reports whether no manifest may be asked for now.
func (b Budget) Exhausted() bool { return !b.Until.IsZero() }

// backgroundShare is the part of a limit that is kept for what clients wait for.
const backgroundShare = 0.5

// ForBackground reports whether there is enough left for work that nobody waits for.
func (b Budget) ForBackground() bool { return !b.Exhausted() && b.Left >= backgroundShare }

// Budget returns how much is left of the rate limit where most of it is left, of all endpoints and accounts. It costs no
// I/O.
func (r *Registry) Budget() Budget {
	now := time.Now()
	accounts := r.inUse(now)
	best := r.endpoints[0].allowances[accounts[0].place].budget(now)
	for _, e := range r.endpoints {
		for _, a := range accounts {
			if b := e.allowances[a.place].budget(now); b.better(best) {
				best = b
			}
		}
	}
	return best
}

// better reports whether there is more to be had from b than from other.
func (b Budget) better(other Budget) bool {
	switch {
	case b.Exhausted() && other.Exhausted():
		return b.Until.Before(other.Until)
	case b.Exhausted() || other.Exhausted():
		return other.Exhausted()
	}
	return b.Left > other.Left
}

// budget returns what is left now, as far as is known.
func (a *allowance) budget(now time.Time) Budget {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := Budget{Left: 1}
	if !a.told.IsZero() {
		b.Left = a.last.grown(now.Sub(a.told))
	}
	// A pause that is over, or in which one request finds out, is no reason to ask for nothing.
	if p := &a.pauses[documents]; p.running(now) {
		b.Until, b.Left = p.until, 0
	}
	return b
}

// unknownWindow is taken for the window of a limit that came without one.
const unknownWindow = time.Minute

// grown estimates which part of the limit is left some time after it was told.
func (q quota) grown(passed time.Duration) float64 {
	if q.reset > 0 && passed >= q.reset {
		return 1
	}
	window := orDefault(orDefault(q.window, q.reset), unknownWindow)
	return min(q.left()+max(passed.Seconds(), 0)/window.Seconds(), 1)
}
