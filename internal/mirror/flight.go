package mirror

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// flights collapses equal work: while something is under way for a key, whoever else asks for the key waits for it. The
// work runs in its own goroutine under its own context, so it survives the request that started it.
type flights[K comparable, V any] struct {
	mu      sync.Mutex
	running map[K]*flight[V]
}

// flight is one piece of work. The fields are set before done is closed.
type flight[V any] struct {
	done   chan struct{}
	result V
	err    error
}

// start returns the flight for key, starting work when none is running; joined tells that one was.
func (fs *flights[K, V]) start(key K, running *sync.WaitGroup, work func() (V, error)) (f *flight[V], joined bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.running[key]; f != nil {
		return f, true
	}
	if fs.running == nil {
		fs.running = make(map[K]*flight[V])
	}
	f = &flight[V]{done: make(chan struct{})}
	fs.running[key] = f
	running.Go(func() {
		f.result, f.err = guarded(work)
		fs.mu.Lock()
		delete(fs.running, key)
		fs.mu.Unlock()
		close(f.done)
	})
	return f, false
}

// guarded makes an error of a panic: no handler is above the work that could, and what strangers send must not end the
// process.
func guarded[V any](work func() (V, error)) (result V, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
		}
	}()
	return work()
}

// wait returns the result, or the cause when ctx ends first.
func (f *flight[V]) wait(ctx context.Context) (V, error) {
	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// waitFor is wait with the patience of somebody who has another answer.
func (f *flight[V]) waitFor(ctx context.Context, patience time.Duration) (V, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.wait(ctx)
}
