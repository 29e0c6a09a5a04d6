package upstream

import "time"

// Age makes a registry's credential as old as if it had been fetched so long ago; it does not bring its end nearer.
func Age(r *Registry, age time.Duration) {
	r.accounts[0].credentials.mu.Lock()
	defer r.accounts[0].credentials.mu.Unlock()
	r.accounts[0].credentials.fetched = r.accounts[0].credentials.fetched.Add(-age)
}
