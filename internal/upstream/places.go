package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// places is a semaphore that tells how it is used. Whoever holds a place when the limits are reloaded gives it back to the
// old one.
type places struct {
	taken chan struct{}
	queue atomic.Int64
}

// newPlaces returns n places, and at least one.
func newPlaces(n int) *places { return &places{taken: make(chan struct{}, max(1, n))} }

// most is how many places there are, inUse how many are taken, and waiting how many callers want one.
func (p *places) most() int    { return cap(p.taken) }
func (p *places) inUse() int   { return len(p.taken) }
func (p *places) waiting() int { return int(p.queue.Load()) }

// errBusy: the request never got as far as a connection. That says nothing about the endpoint.
var errBusy = fmt.Errorf("%w: every connection that limits.connections allows is in use", ErrTimeout)

// take waits for a place, for as long as patience and ctx allow. release gives it back; more than once is harmless.
func (p *places) take(ctx context.Context, patience time.Duration) (release func(), err error) {
	release = sync.OnceFunc(func() { <-p.taken })
	select {
	case p.taken <- struct{}{}:
		return release, nil
	default:
	}
	p.queue.Add(1)
	defer p.queue.Add(-1)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case p.taken <- struct{}{}:
		return release, nil
	case <-timer.C:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return nil, context.Canceled
		}
	}
	return nil, errBusy
}
