package server

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pollerEvents is how many connections that have become ready are taken from the kernel at once.
	pollerEvents = 128
	// sweepEvery is how often a poller looks for connections that have been idle for too long: by so much they may be closed late.
	sweepEvery = 5 * time.Second
	// readiness is what wakes a poller: bytes, urgent ones, behind which a read ends early, the end, and errors, which need not be
	// asked for. Each is reported once; errors are even with nothing.
	readiness = nothing | unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP
	nothing   = unix.EPOLLET

	// A poller that has found as many connections as crowded ready at once looks again for as long as lingers before it waits: the next
	// request of a crowd is there before a thread has gone to sleep and been woken. What nobody crowds is waited for at once.
	crowded = 4
	lingers = 50 * time.Microsecond
	// looksFor is how long it does that at most while other connections, whose goroutines the runtime wakes, may wait for
	// its only processor. In turns of 1 ms half of what lingering brings is lost.
	looksFor = 4 * time.Millisecond
)

// poller waits for requests on many plain connections at once, by an epoll of its own. What can be answered without waiting for anything is
// answered in its one goroutine, one connection after the other in the order in which they became ready. The runtime wakes
// goroutines that wait for connections in the opposite order, so one in a busy crowd waits for nothing or for two rounds, where
// here each waits for one.
//
// Everything else gets a goroutine for as long as it takes, which then gives the connection back.
type poller struct {
	attendant *attendant
	epoll     *os.File // the runtime waits for it as it does for connections

	mu      sync.Mutex // guards what follows
	conns   map[int32]*plainConn
	closing bool // no connection is to come any more
	ended   bool // and the last has left

	// What follows belongs to the goroutine of the poller.
	events [pollerEvents]unix.EpollEvent
	ready  [pollerEvents]*plainConn
}

// newPollers returns one poller for each processor. It returns fewer, or none, when descriptors are short.
func newPollers(a *attendant) (all []*poller) {
	for range runtime.GOMAXPROCS(0) {
		epoll, err := newEpoll()
		if err != nil {
			break
		}
		p := &poller{attendant: a, epoll: epoll, conns: make(map[int32]*plainConn)}
		all = append(all, p)
		go p.run()
		time.AfterFunc(sweepEvery, p.sweep)
	}
	return all
}

// newEpoll opens an epoll that the runtime waits for.
func newEpoll() (*os.File, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	err = unix.SetNonblock(fd, true)
	file := os.NewFile(uintptr(fd), "epoll")
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // what the runtime does not wait for has no deadlines
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// close ends the poller when its last connection has left. None may be added any more.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	p.endIfEmpty()
}

// endIfEmpty is called with p.mu held.
func (p *poller) endIfEmpty() {
	if p.closing && !p.ended && len(p.conns) == 0 {
		p.ended = true
		go p.epoll.Close() // it waits for the goroutine of the poller, which may be the one that is here
	}
}

// add begins to wait for requests of c. When it fails c is as before.
func (p *poller) add(c *plainConn) error {
	p.mu.Lock() // nobody looks for c before it is there
	defer p.mu.Unlock()
	if err := p.arm(c, unix.EPOLL_CTL_ADD, readiness); err != nil {
		return err
	}
	return control(c.conn, func(fd int) error {
		c.front.turn, c.fd = c.front.takeTurn, int32(fd)
		c.poller.Store(p)
		p.conns[c.fd] = c
		c.phase.Store(phaseNew)
		return nil
	})
}

// arm says for which events the kernel is to report a connection, at once if there are some now.
func (p *poller) arm(c *plainConn, how int, events uint32) error {
	return control(c.conn, func(fd int) error {
		return control(p.epoll, func(epoll int) error {
			return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, how, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
		})
	})
}

// forget is called when a connection is closed. Its descriptor may be another's by then.
func (p *poller) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.conns[c.fd]; known != nil && known.conn == c {
		delete(p.conns, c.fd)
		p.endIfEmpty()
	}
}

// run serves the connections until the poller has ended.
func (p *poller) run() {
	raw, err := p.epoll.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(p.look) // it ends with the epoll
}

// look serves what is ready, and returns false: to be called again when more is. Between two calls, and two batches, other goroutines
// have their turn.
func (p *poller) look(epoll uintptr) (done bool) {
	began := time.Now()
	crowd := began.Add(-lingers) // when there was one
	for {
		n := p.serveReady(int(epoll))
		now := time.Now()
		if n >= crowded {
			crowd = now
		}
		// Connections that did not fit into a batch are not reported again to who waits.
		if n < pollerEvents && (now.Sub(crowd) >= lingers || now.Sub(began) >= looksFor) {
			return false
		}
		runtime.Gosched()
	}
}

// serveReady serves a batch of connections that are ready now, and returns how many they were.
func (p *poller) serveReady(epoll int) int {
	n, err := unix.EpollWait(epoll, p.events[:], 0)
	if err != nil { // a call that does not wait is not interrupted, and the epoll is open
		return 0
	}
	p.pick(n)
	for i, c := range p.ready[:n] {
		if p.ready[i] = nil; c != nil {
			p.serve(c, p.events[i].Events&^unix.EPOLLIN != 0)
		}
	}
	return n
}

// pick finds the connections of the first n events. One that has left meanwhile is nil, or another that has its descriptor now and
// is looked at for nothing.
func (p *poller) pick(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range p.events[:n] {
		p.ready[i] = p.conns[e.Fd]
	}
}

// serve answers what has come on a connection, unless it is being served: whoever does that gives it back. behind
// says that there may be something behind what one read gets, such as the end.
func (p *poller) serve(c *plainConn, behind bool) {
	f := &c.front
	phase, ok := c.begin()
	if !ok {
		return
	}
	f.phase, f.behind = phase, behind
	err := f.raw.Control(f.turn)
	if err == nil {
		err = f.turned
	}
	switch {
	case err == nil:
		p.waits(c, f.phase)
	case errors.Is(err, errNotNow):
		go p.keep(c)
	default:
		f.leave()
		_ = c.conn.Close()
	}
}

// begin takes a connection that waits for a request in its poller.
func (c *conn) begin() (phase int32, ok bool) {
	phase = c.phase.Load()
	return phase, (phase == phaseNew || phase == phaseIdle) && c.phase.CompareAndSwap(phase, phaseBusy)
}

// waits says that a connection waits for its next request, unless there is to be none.
func (p *poller) waits(c *plainConn, phase int32) {
	c.phase.Store(phase)
	// Later than the phase, so a stop that does not see the one is seen here.
	if phase == phaseIdle && p.attendant.stopping.Load() && c.phase.CompareAndSwap(phaseIdle, phaseGone) {
		_ = c.conn.Close()
	}
}

// takeTurn reads once, and answers the requests that it can, up to the first that has to wait. What ended it is in f.turned.
func (f *front) takeTurn(fd uintptr) {
	f.inTurn, f.fd = true, int(fd)
	f.turned = f.answerNow()
	f.inTurn = false
}

func (f *front) answerNow() error {
	f.err = nil
	if !f.read(uintptr(f.fd)) || f.err != nil {
		return f.err
	}
	f.phase = phaseIdle
	more := f.behind || f.have == roomSize // else what comes next is reported
	if f.server == nil {
		return errNotNow
	}
	if err := f.answer(); err != nil {
		return err
	}
	if more || f.room != nil { // a client that always has more is not to hold up the others
		return errNotNow
	}
	return nil
}

// keep goes on where a turn could not, and answers what the client asks for after that. Once it is quiet the connection goes back
// to the poller.
func (p *poller) keep(c *plainConn) {
	f := &c.front
	f.renewed = time.Time{}
	err := f.sendRest()
	if err == nil {
		err = p.arm(c, unix.EPOLL_CTL_MOD, nothing) // a report that is on its way finds the phase
	}
	for quiet := false; err == nil && !quiet; {
		if err = p.attendant.goOn(c); err == nil {
			runtime.Gosched() // whoever asks again at once is behind those who have been waiting
			quiet, err = f.stays(p.attendant.stopping)
		}
	}
	f.leave()
	if err == nil {
		c.active.Store(time.Now().UnixNano())
		p.waits(c, phaseIdle)
		err = p.arm(c, unix.EPOLL_CTL_MOD, readiness)
	}
	if err != nil {
		_ = c.conn.Close()
	}
}

// stays waits a moment for the next request. quiet says that none has come.
func (f *front) stays(stopping *atomic.Bool) (quiet bool, err error) {
	kept := f.own.crowd.kept
	if now := time.Now(); now.Sub(f.renewed) > kept/2 {
		f.renewed = now
		if err := f.conn.SetReadDeadline(now.Add(kept)); err != nil {
			return false, err
		}
	}
	err = f.await(phaseKept, stopping)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, err
}

// sweep closes the connections that have been without a request for too long.
func (p *poller) sweep() {
	var idle []*plainConn
	now := time.Now()
	p.mu.Lock()
	for _, c := range p.conns {
		if c.tooLong(now) {
			idle = append(idle, c)
		}
	}
	ended := p.ended
	p.mu.Unlock()
	for _, c := range idle {
		_ = c.conn.Close()
	}
	if !ended {
		time.AfterFunc(sweepEvery, p.sweep)
	}
}

// tooLong reports whether a connection has waited for too long, and is the caller's to close then.
func (c *conn) tooLong(now time.Time) bool {
	return now.Sub(c.since) >= readWithin && c.phase.CompareAndSwap(phaseNew, phaseGone) ||
		now.UnixNano()-c.active.Load() >= int64(idleFor) && c.phase.CompareAndSwap(phaseIdle, phaseGone)
}
