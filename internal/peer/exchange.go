package peer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Exchange gets content from peers, and decides which of them serves whom. A node has one. It may be used by any number of
// goroutines.
type Exchange struct {
	cluster cluster
	calls   *caller
	boards  boards
	chunk   int64
	metrics *traffic
	log     *slog.Logger
	told    *limiter

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	looking sync.WaitGroup

	mu     sync.Mutex
	closed bool
	looks  map[string]*look // pings under way or just over
}

// cluster is what an Exchange needs of a Group: who is there, and what tells members from strangers.
type cluster interface {
	View() View
	Dead(name string)
	Sign(to string, r Request) (header string, p Proof)
	Verify(header string, r Request) (Proof, error)
	SignAnswer(p Proof, a Answer) string
	VerifyAnswer(p Proof, a Answer, signature string) error
}

// NewExchange returns the exchange of a node that is in a group. chunk is the unit of exchange in bytes.
func NewExchange(g *Group, chunk int64, log *slog.Logger, reg prometheus.Registerer) (*Exchange, error) {
	metrics, err := newTraffic(reg)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return newExchange(g, chunk, log, metrics), nil
}

func newExchange(c cluster, chunk int64, log *slog.Logger, metrics *traffic) *Exchange {
	e := &Exchange{
		cluster: c, calls: newCaller(c), chunk: chunk, metrics: metrics, log: log.With("component", "peer"),
		told: newLimiter(time.Minute), looks: map[string]*look{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Origin opens bytes [start, end) of a blob at its registry, when this node is the one that has to.
type Origin func(ctx context.Context, start, end int64) (*Stream, error)

// Stream is content from the registry.
type Stream struct {
	Body io.ReadCloser
	// Start is the offset of Body's first byte, Size the length of the whole blob, or -1.
	Start, Size int64
	// Whole: Body goes to the end of the blob, whatever was asked for.
	Whole bool
	// Reject tells the registry's side that what came is no good; the next call goes elsewhere if it can. May be nil.
	Reject func()
}

// ChunkSize is the unit of exchange in bytes.
func (e *Exchange) ChunkSize() int64 { return e.chunk }

// Useful tells whether there is anybody to exchange content with. Without, a fill is better off with the registry alone.
func (e *Exchange) Useful() bool {
	v := e.cluster.View()
	return !v.Alone() && v.Owners() > 0
}

// Owns tells whether this node may own at all. One that may not must not answer who takes it for an owner: the asker goes to
// the next rank.
func (e *Exchange) Owns() bool {
	return e.cluster.View().MayOwn()
}

// Close ends the looks after other members, and lets go of idle connections. It is called when all transfers are over.
func (e *Exchange) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.looking.Wait()
	e.calls.close()
}

// look is one look after a member that was silent.
type look struct {
	done  chan struct{}
	alive bool
	over  time.Time // when the result came
}

// alive reports whether a member answers a ping. Whoever wants to know at the same time shares one; what was found at most
// age ago is believed. A member that does not answer is told to the cluster's view, which passes it over from then on.
func (e *Exchange) alive(m *Member, age time.Duration) bool {
	l := e.lookAfter(m, age)
	<-l.done
	return l.alive
}

// suspect looks after a member that has broken off, without waiting for the result.
func (e *Exchange) suspect(m *Member) { e.lookAfter(m, stallTime) }

// looksMost is how many results are kept before those that are too old to be believed are forgotten.
const looksMost = 8 << 10

// lookAfter returns the last look after a member, or begins one.
func (e *Exchange) lookAfter(m *Member, age time.Duration) *look {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.looks[m.Name]
	if l != nil && (e.closed || l.over.IsZero() || time.Since(l.over) <= age) {
		return l
	}
	if len(e.looks) >= looksMost {
		maps.DeleteFunc(e.looks, func(_ string, old *look) bool { return !old.over.IsZero() && time.Since(old.over) > surveyAge })
	}
	l = &look{done: make(chan struct{})}
	e.looks[m.Name] = l
	if e.closed {
		close(l.done)
		return l
	}
	e.looking.Go(func() { e.look(m, l) })
	return l
}

func (e *Exchange) look(m *Member, l *look) {
	ctx, cancel := context.WithTimeout(e.ctx, pingTime)
	defer cancel()
	l.alive = e.calls.ping(ctx, m)
	if !l.alive && e.ctx.Err() == nil {
		if held, ok := e.told.allow("dead"); ok {
			e.log.Warn("a peer does not answer, and is passed over for a while: look after it, or the network to it", "peer", m.Name, "held_back", held)
		}
		e.cluster.Dead(m.Name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l.over = time.Now()
	close(l.done)
}

const (
	// surveyChunks is for how many chunks a fill looks after the owners at once; surveyAge is how long a member that answered
	// is not looked after again by that.
	surveyChunks = 32
	surveyAge    = 5 * time.Second
)

// survey looks after the members that own the first chunks of a blob, all at once: if many of them hang, the fill should
// not find out one by one.
func (e *Exchange) survey(c Content) {
	v := e.cluster.View()
	var owners []*Member
	for chunk := range int64(surveyChunks) {
		key := ChunkKey(c.Digest, chunk)
		owners = append(owners, v.ZoneOwner(key), v.Owner(key))
	}
	e.lookAfterAll(v, owners)
}

// surveyRanks looks after the first members for a key, for the same reason.
func (e *Exchange) surveyRanks(key Key) {
	v := e.cluster.View()
	var room [maxTop]*Member
	e.lookAfterAll(v, append(v.Top(key, room[:]), v.ZoneOwner(key)))
}

// lookAfterAll pings members without waiting for the results. Some may be nil, or in the list twice.
func (e *Exchange) lookAfterAll(v View, members []*Member) {
	seen := NamesOf(v.Self().Name)
	for _, m := range members {
		if m != nil && !seen.Has(m.Name) {
			seen[m.Name] = struct{}{}
			e.lookAfter(m, surveyAge)
		}
	}
}

// Admit decides who serves an asker with bytes of a chunk: this node, which is the empty name, or an earlier asker. small
// content is not worth a redirect.
func (e *Exchange) Admit(a Ask, sender string, small bool) (parent string) {
	v, now := e.cluster.View(), time.Now()
	b := e.boards.get(chunkID{a.Digest, a.Key}, now)
	dead := e.confirm(v, a.Dead)
	b.hear(a, sender, v, now)
	if a.Role != AsOwner || small {
		return ""
	}
	give, near := fanout, true
	if m := v.Member(sender); m != nil {
		near = m.Zone == v.Self().Zone
		if m.Refuses&Slow != 0 {
			give = 0
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.list(near)
	for _, name := range dead {
		k.bury(name)
	}
	return k.place(sender, give, a.Dead, a.Slow, a.Not, now)
}

// confirm returns those members of whom somebody says that they are dead that are dead for this node too. What the sender of
// a request cannot reach is no reason for this node to get from the registry what another member owns. Of a member that this
// node does not know it cannot find out, and believes what it hears.
func (e *Exchange) confirm(v View, names []string) (dead []string) {
	if len(names) == 0 {
		return nil
	}
	gone := make([]bool, len(names))
	var looks sync.WaitGroup
	for i, name := range names {
		switch m := v.Member(name); {
		case name == v.Self().Name:
		case m == nil:
			gone[i] = true
		default:
			looks.Go(func() { gone[i] = v.Passed(name) || !e.alive(m, stallTime) })
		}
	}
	looks.Wait()
	for i, name := range names {
		if gone[i] {
			dead = append(dead, name)
		}
	}
	return dead
}

// Sending tells that bytes of a chunk are being sent to a member, until done is called.
func (e *Exchange) Sending(a Ask, sender string) (done func()) {
	v, now := e.cluster.View(), time.Now()
	b := e.boards.get(chunkID{a.Digest, a.Key}, now)
	near := true
	if m := v.Member(sender); m != nil {
		near = m.Zone == v.Self().Zone
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ended := b.list(near).began(sender)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		ended()
	}
}

// SentWrong counts a chunk with wrong bytes that a peer has sent.
func (e *Exchange) SentWrong() { e.metrics.wrong.Inc() }

// Sent counts bytes that were sent to a peer.
func (e *Exchange) Sent(n int64) { e.metrics.out.Add(float64(n)) }

// Moving tells how far away bytes of a chunk are moving that this node gets: 1 when they come here or a registry is being
// asked for them, n when they come to a member n-1 further on, 0 when nobody is known to get them.
func (e *Exchange) Moving(a Ask) int {
	b := e.boards.get(chunkID{a.Digest, a.Key}, time.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	nearest := 0
	for _, t := range b.getting {
		if at := t.movingAt(); at > 0 && (nearest == 0 || at < nearest) {
			nearest = at
		}
	}
	return nearest
}
