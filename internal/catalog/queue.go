package catalog

import "sync"

// queue says which repositories have unsaved changes, and who waits for them to be saved. A repository is added after
// its change was noted in it, so that whoever takes the repository from the queue finds the change.
type queue struct {
	mu           sync.Mutex // guards the three below
	repositories map[*repository]struct{}
	waiters      []chan<- error
	closed       bool

	wake chan struct{} // holds one value when there is something to do at once
	stop chan struct{} // closed when there will be no more
}

func newQueue() *queue {
	return &queue{
		repositories: make(map[*repository]struct{}),
		wake:         make(chan struct{}, 1),
		stop:         make(chan struct{}),
	}
}

// add asks for a repository's changes to be saved soon.
func (q *queue) add(r *repository) {
	q.put(r, nil)
	q.signal()
}

// addLazily asks for a repository's changes to be saved with the next commit, whenever that is.
func (q *queue) addLazily(r *repository) { q.put(r, nil) }

// addAndWait asks for a repository's changes to be saved now, and waits until they are.
func (q *queue) addAndWait(r *repository) error {
	done := make(chan error, 1)
	if !q.put(r, done) {
		return ErrClosed
	}
	q.signal()
	return <-done
}

// put reports false when the queue is closed.
func (q *queue) put(r *repository, waiter chan<- error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.repositories[r] = struct{}{}
	if waiter != nil {
		q.waiters = append(q.waiters, waiter)
	}
	return true
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already, and will find what was added
	}
}

// takeWaiters empties the list of those who wait. Their changes are found by a takeRepositories that comes after it.
func (q *queue) takeWaiters() []chan<- error {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiters := q.waiters
	q.waiters = nil
	return waiters
}

func (q *queue) takeRepositories() map[*repository]struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	repositories := q.repositories
	q.repositories = make(map[*repository]struct{})
	return repositories
}

// giveBack adds the repositories that a failed commit had taken, also after close.
func (q *queue) giveBack(r *repository) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.repositories[r] = struct{}{}
}

// close refuses what comes from now on, and tells the committer to finish. It is called once.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.stop)
}
