package peer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// takeOver is after how long without any bytes on their way a transfer begins to look past the owner; it doubles.
	takeOver = 3 * time.Second
	// takeOverRanks are the ranks that may take a chunk over from an owner that gets nowhere; everybody may after more looks
	// than takeOverTries, which takes a minute and a half.
	takeOverRanks = 3
	takeOverTries = 4
	// failuresMost is how many members may fail to reach the registry before this node tries for itself.
	failuresMost = 2
	// patienceLeast and patienceFactor: a parent is slow that takes this many times as long for a chunk as is usual here.
	patienceLeast   = 100 * time.Millisecond
	patienceFactor  = 4
	patienceUnknown = 2 * time.Second
	// rescueTime is how long each of rescueAtOnce members has to answer when everybody is asked.
	rescueTime   = 500 * time.Millisecond
	rescueAtOnce = 16
	// complaints is how often a transfer looks for a faster parent.
	complaints = 3
	// pollGap is the least time between two questions to one member that said "not yet".
	pollGap = 20 * time.Millisecond
	// movingMost bounds over how many members "it is moving" is passed on, so that no circle of waiters believes itself.
	movingMost = 4
)

// errMoved ends a wait by way of a member that somebody has found dead.
var errMoved = errors.New("there is another way now")

// errAgain means that the situation has changed: look for the owner again.
var errAgain = errors.New("look again")

// errOwn means that nobody else is to be asked: the bytes come from the registry.
var errOwn = errors.New("this node owns the chunk")

// transfer is the getting of one chunk, or what is missing of it, by one node. It survives its sources: what has come
// stays, and the next source is asked for the rest.
type transfer struct {
	blob  *Blob
	id    chunkID
	key   Key
	board *board

	mu       sync.Mutex
	dead     Names // found dead
	unable   Names // have said that they cannot get the chunk
	slow     []string
	not      []string
	again    int // looks past the owner, and complaints
	failures int
	probed   bool
	via      string                  // the owner by way of which this node waits
	cancel   context.CancelCauseFunc // ends the wait
	moving   int                     // 1: bytes are on their way here; n: to a member n-1 further; 0: not
}

// hear learns of members that an asker found dead. If this node waits by way of one of them it asks again, and not for the
// asker as a parent: that waits for this node. Whether the member is dead this node finds out itself; the link that is broken may
// be the asker's. The board's lock is held.
func (t *transfer) hear(names []string, asker string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cancel == nil || !slices.Contains(names, t.via) {
		return
	}
	t.avoidLocked(asker)
	t.cancel(errMoved)
}

func (t *transfer) avoidLocked(name string) {
	if !slices.Contains(t.not, name) && len(t.not) < maxNames {
		t.not = append(t.not, name)
	}
}

// movingAt tells how far away bytes of the chunk are moving: 1 when they come here or a registry is being asked for them, 0
// when nobody is known to get them.
func (t *transfer) movingAt() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.moving
}

func (t *transfer) setMoving(at int) {
	if at > movingMost {
		at = 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moving = at
}

// view is the cluster without the members that cannot be asked for this chunk.
func (t *transfer) view() View {
	except := Names{}
	t.board.unableNow(except, time.Now())
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.Copy(except, t.dead)
	maps.Copy(except, t.unable)
	return t.blob.exchange.cluster.View().Without(slices.Collect(maps.Keys(except))...)
}

// owner returns whom this node asks: the owner of its zone, or the owner of all. It is nil when that is itself, or nobody.
// A node that may not own answers nobody who takes it for an owner (Exchange.Owns), and for all others the order of two members is
// the same whatever their views: whoever is asked asks a higher rank, and requests never go in circles.
func owner(v View, key Key) *Member {
	if m := v.ZoneOwner(key); m != nil && m.Name != v.Self().Name {
		return m
	}
	if m := v.Owner(key); m != nil && m.Name != v.Self().Name {
		return m
	}
	return nil
}

// seek finds the source of bytes [start, end): a peer that sends them, or errOwn. It waits as long as they are on their way
// to somebody. hasty is for who has a source already: what would have to be waited for is no better.
func (t *transfer) seek(ctx context.Context, start, end int64, hasty bool) (*source, error) {
	for {
		v := t.view()
		m := owner(v, t.key)
		if m == nil || t.failedOften() {
			return t.own(ctx, v, start, end)
		}
		s, err := t.by(ctx, &wanting{transfer: t, view: v, owner: m, start: start, end: end, hasty: hasty})
		if !errors.Is(err, errAgain) {
			return s, err
		}
	}
}

// source is a peer that sends. Its context ends the sending.
type source struct {
	member *Member
	owner  *Member // who named it, or itself
	said   *answer
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (s *source) end() {
	s.cancel(nil)
	_ = s.said.body.Close() // whatever it says, nothing more is read from it
}

// by gets the bytes by way of an owner. A wait ends early when that owner is said to be dead.
func (t *transfer) by(ctx context.Context, w *wanting) (*source, error) {
	waiting, cancel := context.WithCancelCause(ctx)
	s, err := t.waitFor(waiting, cancel, w)
	moved := errors.Is(context.Cause(waiting), errMoved) && ctx.Err() == nil
	if err == nil {
		s.ctx, s.cancel = waiting, cancel
		if !moved {
			return s, nil
		}
		s.end() // it came in the moment in which the wait was ended
	}
	cancel(nil)
	if moved {
		return nil, errAgain
	}
	return nil, err
}

// waitFor gets the bytes, while those who find the owner dead may end that. A hasty search is no wait.
func (t *transfer) waitFor(ctx context.Context, cancel context.CancelCauseFunc, w *wanting) (*source, error) {
	if !w.hasty {
		t.waitBy(w.owner.Name, cancel)
		defer t.waitBy("", nil)
	}
	return w.get(ctx)
}

func (t *transfer) waitBy(owner string, cancel context.CancelCauseFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.via, t.cancel = owner, cancel
}

// bury notes a member that was found dead.
func (t *transfer) bury(m *Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = t.dead.with(m.Name)
}

// excuse notes a member that has said that it cannot get the chunk.
func (t *transfer) excuse(m *Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unable = t.unable.with(m.Name)
}

// ask builds the request for a member.
func (t *transfer) ask(v View, role Role, start, end int64) Ask {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Ask{
		Content: t.blob.content, Key: t.id.key, Start: start, End: end, Role: role,
		Dead: t.dead.some(), Unable: t.unable.some(), Slow: slices.Clone(t.slow), Not: slices.Clone(t.not), Hop: 1,
	}
}

// own is what an owner does: it asks the next ranks whether they have the chunk, because after a change of the members they
// are likely to, and then the registry.
func (t *transfer) own(ctx context.Context, v View, start, end int64) (*source, error) {
	t.mu.Lock()
	probed := t.probed
	t.probed = true
	t.mu.Unlock()
	if !probed {
		if s := t.probe(ctx, v, start, end); s != nil {
			return s, nil
		}
	}
	return nil, errOwn
}

// probe asks the next ranks at once for bytes that they have, and takes the first that has.
func (t *transfer) probe(ctx context.Context, v View, start, end int64) *source {
	var room [takeOverRanks + 1]*Member
	ranks := slices.DeleteFunc(v.Top(t.key, room[:]), func(m *Member) bool { return m.Name == v.Self().Name })
	ranks = ranks[:min(len(ranks), takeOverRanks)]
	return t.first(ctx, v, ranks, probeTime, start, end)
}

// first asks members at once for bytes that they hold, and returns the first that answers with them within the time.
func (t *transfer) first(ctx context.Context, v View, members []*Member, within time.Duration, start, end int64) *source {
	found := make(chan *source, len(members))
	for _, m := range members {
		go func() { found <- t.held(ctx, v, m, within, start, end) }()
	}
	for n := range members {
		s := <-found
		if s == nil {
			continue
		}
		go func() { // the others are not needed any more
			for range members[n+1:] {
				if late := <-found; late != nil {
					late.end()
				}
			}
		}()
		return s
	}
	return nil
}

// held asks one member for bytes that it holds.
func (t *transfer) held(ctx context.Context, v View, m *Member, within time.Duration, start, end int64) *source {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(within, func() { cancel(errSilent) })
	said, err := t.blob.exchange.calls.ask(ctx, m, t.ask(v, AsHolder, start, end))
	if err == nil {
		err = t.blob.fits(m, said)
	}
	if err == nil && said.status == StatusContent && timer.Stop() {
		return &source{member: m, owner: m, said: said, ctx: ctx, cancel: cancel}
	}
	if err == nil && said.body != nil {
		_ = said.body.Close()
	}
	cancel(nil)
	return nil
}

// mayTakeOver reports whether this node may ask the registry although another member owns the chunk: the owner gets
// nowhere, and this is one of the next ranks or it has lasted too long.
func (t *transfer) mayTakeOver(v View, tries int) bool {
	if tries > takeOverTries {
		return true
	}
	var room [takeOverRanks]*Member
	return slices.ContainsFunc(v.Top(t.key, room[:]), func(m *Member) bool { return m.Name == v.Self().Name })
}

// failed notes that a member could not reach the registry. After some such failures this node tries for itself.
func (t *transfer) failed(m *Member) {
	t.excuse(m)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures++
}

func (t *transfer) failedOften() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failures >= failuresMost
}

// rescue asks everybody for bytes that they hold, because the registry cannot be asked. Who had the last chunk is asked first.
func (t *transfer) rescue(ctx context.Context, start, end int64) *source {
	v := t.view()
	if m := v.Member(t.blob.lastHolder()); m != nil {
		if s := t.held(ctx, v, m, rescueTime, start, end); s != nil {
			return s
		}
	}
	for some := range slices.Chunk(others(v), rescueAtOnce) {
		if s := t.first(ctx, v, some, rescueTime, start, end); s != nil {
			t.blob.foundAt(s.member.Name)
			return s
		}
	}
	return nil
}

// others lists all members that can be asked, without this node.
func others(v View) []*Member {
	var list []*Member
	for _, m := range v.Members() {
		if m.Name != v.Self().Name && m.Transfer.IsValid() && !v.Passed(m.Name) {
			list = append(list, m)
		}
	}
	return list
}
