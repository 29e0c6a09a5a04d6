package upstream

import (
	"slices"
	"time"
)

// Spare returns how many transfers may begin that nobody waits for. It is none while the registry does not thrive, and while
// somebody waits for a connection or for another limit of ours. It costs no I/O.
func (r *Registry) Spare() int {
	if !r.Thrives() {
		return 0
	}
	return r.limits.Load().spare()
}

// Thrives reports whether some endpoint has nothing against requests: its breaker is closed, it has told none of the accounts
// in use to wait, and more of the rate limit is left than what is kept for those who wait. A registry that is offline never
// does.
func (r *Registry) Thrives() bool {
	if r.config.Offline || !r.Budget().ForBackground() {
		return false
	}
	now := time.Now()
	accounts := r.inUse(now)
	return slices.ContainsFunc(r.endpoints, func(e *endpoint) bool {
		state, _, _ := e.breaker.snapshot()
		return state == breakerClosed && !slices.ContainsFunc(accounts, func(a *account) bool { return e.allowances[a.place].paused(now) })
	})
}

// paused reports whether requests of any class are held back.
func (a *allowance) paused(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.pauses {
		if now.Before(a.pauses[i].until) {
			return true
		}
	}
	return false
}
