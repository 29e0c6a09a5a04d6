package upstream

import "sync"

// The retry budget of a registry. In an outage every request fails, and one more for each of them would be twice the load
// on what is in trouble. The reserve is for the single failures of good days.
const (
	retryShare   = 0.1 // retries for each request
	retryReserve = 10  // retries that may be saved up
)

// retries is a bucket of permissions to ask an endpoint again that has just failed. Asking another endpoint, or going on
// with a blob that has broken off, is no retry.
type retries struct {
	mu    sync.Mutex
	saved float64
}

func newRetries() *retries { return &retries{saved: retryReserve} }

// earn counts a request.
func (b *retries) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(b.saved+retryShare, retryReserve)
}

// spend reports whether a retry may be made, and takes it.
func (b *retries) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.saved < 1 {
		return false
	}
	b.saved--
	return true
}
