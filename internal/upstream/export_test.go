package upstream

import "time"

// Age makes a registry's credential as old as if it had been fetched so long ago; it does not bring its end nearer.
func Age(r *Registry, age time.Duration) {
	r.credentials.mu.Lock()
	defer r.credentials.mu.Unlock()
	r.credentials.fetched = r.credentials.fetched.Add(-age)
}
