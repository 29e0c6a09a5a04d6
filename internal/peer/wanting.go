package peer

import (
	"context"
	"slices"
	"sync"
	"time"
)

// wanting is a transfer that asks by way of one owner: first the owner itself, then whom it names.
type wanting struct {
	*transfer
	view       View
	owner      *Member
	start, end int64
	hasty      bool

	at     *Member // who is asked now
	since  time.Time
	looks  int // past the owner, because nothing moved
	strays int // times the owner has named nobody who could be asked
	turns  int // times it has named somebody
}

// get asks until somebody sends, or there is a reason to look elsewhere.
func (w *wanting) get(ctx context.Context) (*source, error) {
	w.at, w.since = w.owner, time.Now()
	for ctx.Err() == nil {
		asked := time.Now()
		said, err := w.call(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			err = w.lost()
		} else if err = w.heed(ctx, said); err == nil && said.status == StatusContent {
			return &source{member: w.at, owner: w.owner, said: said}, nil
		}
		if err != nil {
			return nil, err
		}
		if gap := pollGap - time.Since(asked); gap > 0 {
			rest(ctx, gap)
		}
	}
	return nil, context.Cause(ctx)
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// call makes one request. A member that says nothing for longer than it may is looked after; when it is dead the request
// ends.
func (w *wanting) call(ctx context.Context) (*answer, error) {
	role := AsParent
	if w.at == w.owner {
		role = AsOwner
	}
	e, at := w.blob.exchange, w.at
	asking, cancel := context.WithCancelCause(ctx)
	watch := e.watch(at, HoldTime+stallTime, stuckTime, cancel)
	said, err := e.calls.ask(asking, at, w.ask(w.view, role, w.start, w.end))
	watch.stop()
	if err == nil {
		err = w.blob.fits(at, said)
	}
	if err != nil || said.body == nil {
		cancel(nil)
		return said, err
	}
	context.AfterFunc(ctx, func() { cancel(nil) }) // the body lives on, as long as ctx
	return said, nil
}

// heed acts on an answer. Without an error the next request goes to w.at.
func (w *wanting) heed(ctx context.Context, said *answer) error {
	w.blob.learn(said)
	if err := refusal(w.at.Name, said); err != nil {
		return err
	}
	switch {
	case said.status == StatusContent:
		return nil
	case said.status == StatusNotYet:
		return w.wait(ctx, said)
	case said.status == StatusAskOther && w.at == w.owner:
		return w.turn(said.node)
	case said.status == StatusFailed && w.at == w.owner:
		w.failed(w.owner)
		return errAgain
	case w.at == w.owner:
		w.excuse(w.owner)
		return errAgain
	}
	return w.back()
}

// wait goes on waiting, unless nothing moves for too long.
func (w *wanting) wait(ctx context.Context, said *answer) error {
	if w.hasty {
		return errOwn // which hasty ones do not heed
	}
	w.setMoving(said.moving + min(said.moving, 1))
	if time.Since(w.since) < takeOver<<min(w.looks, takeOverTries) {
		return nil
	}
	w.blob.exchange.log.Debug("a chunk does not come yet", "peer", w.at.Name, "digest", w.id.digest, "bytes", w.start, "duration", time.Since(w.since))
	w.since = time.Now()
	w.looks++
	moving := said.moving > 0
	if w.at != w.owner {
		moving = moving || w.ownerMoves(ctx)
	}
	if !moving && w.looks > 1 && w.mayTakeOver(w.view, w.looks) {
		w.blob.exchange.metrics.takeovers.Inc()
		return errOwn
	}
	if w.at != w.owner {
		return w.back() // perhaps it has the chunk by now
	}
	return nil
}

// ownerMoves reports whether the owner has the chunk, or gets it.
func (w *wanting) ownerMoves(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	said, err := w.blob.exchange.calls.ask(ctx, w.owner, w.ask(w.view, AsHolder, w.start, w.end))
	if err != nil {
		return false
	}
	if said.body != nil {
		_ = said.body.Close()
	}
	return said.status == StatusContent || said.moving > 0
}

// turnsMost is how many parents an owner may name without any of them sending.
const turnsMost = 64

// straysMost is how often an owner may name somebody who cannot be asked.
const straysMost = 8

// turn goes to the member that the owner has named. An owner that goes on and on, or names whom it was told not to, is passed
// over.
func (w *wanting) turn(name string) error {
	w.blob.exchange.metrics.redirects.Inc()
	m := w.view.Member(name)
	if m != nil && name != w.view.Self().Name && !w.view.Passed(name) && !w.avoids(name) {
		w.at = m
		w.turns++
	} else {
		w.avoid(name) // the owner knows somebody whom this node does not
		w.strays++
	}
	if w.turns > turnsMost || w.strays > straysMost {
		w.excuse(w.owner)
		return errAgain
	}
	return nil
}

func (w *wanting) avoids(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.not, name)
}

// back returns from a parent that has nothing to the owner, which names another.
func (w *wanting) back() error {
	w.avoid(w.at.Name)
	w.at = w.owner
	return nil
}

func (w *wanting) avoid(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.avoidLocked(name)
}

// lost notes a member that did not answer at all: the connection was refused or broke, or it is silent.
func (w *wanting) lost() error {
	w.bury(w.at)
	w.blob.exchange.suspect(w.at)
	if w.at == w.owner {
		return errAgain
	}
	w.at = w.owner
	return nil
}

// watch looks after a member when it has been silent for a time, and again, until it is stopped. What is being done with the
// member ends when it is dead, or has sent nothing for longer than patience although it lives.
type watch struct {
	exchange *Exchange
	member   *Member
	patience time.Duration
	cancel   context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	last  time.Time // when something came
	over  bool
}

func (e *Exchange) watch(m *Member, silence, patience time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{exchange: e, member: m, patience: patience, cancel: cancel, last: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(silence, w.look)
	return w
}

// look looks after the member. What comes meanwhile counts more than a ping that is lost on a busy link.
func (w *watch) look() {
	w.mu.Lock()
	last, over := w.last, w.over
	w.mu.Unlock()
	if over {
		return
	}
	alive := w.exchange.alive(w.member, stallTime)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case alive && time.Since(w.last) < w.patience, w.last.After(last):
		w.timer.Reset(stallTime)
	default:
		w.cancel(errSilent)
	}
}

// heard tells that the member has sent something.
func (w *watch) heard() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	w.timer.Reset(stallTime)
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}
