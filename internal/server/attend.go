package server

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// The phases of a connection. One that a stop or a sweep finds waiting is closed by it, and by nobody else.
const (
	phaseNew  int32 = iota // nothing was asked for yet
	phaseIdle              // between two requests
	phaseKept              // the same, and a goroutine waits that was there for the last
	phaseBusy
	phaseGone // closed by a stop or a sweep
)

// keptFor is how long a connection stays with the goroutine that it has got: who pulls layers asks for the next one within it.
const keptFor = time.Second

// errNotNow says that a turn cannot go on without waiting for something.
var errNotNow = errors.New("this has to wait for something")

// attendant answers the connections of listeners. A poller waits for the requests of plain ones, and a goroutine with little on its stack
// for those of each that is secured. Both answer what they can themselves, and lend the connection to fasthttp from the first request
// that they cannot to the moment when fasthttp would wait for the next. A node has thousands of connections that wait, and
// fasthttp's frames alone would keep the stack of each at 8 KiB.
type attendant struct {
	http   *fasthttp.Server
	rooms  *sync.Pool
	server *Server // nil: fasthttp answers everything
	// stopping says that no connection is to wait for another request.
	stopping *atomic.Bool
}

// serve answers the connections of ln until that is closed; then it returns nil.
func (a *attendant) serve(ln net.Listener) error {
	pollers := newPollers(a)
	defer func() {
		for _, p := range pollers {
			p.close()
		}
	}()
	for next := 0; ; next++ {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		a.receive(c, pollers, next)
	}
}

// receive has somebody wait for the requests of a new connection: one of the pollers, or a goroutine.
func (a *attendant) receive(c net.Conn, pollers []*poller, next int) {
	l := newLent(c, a.rooms, a.server)
	if plain, ok := l.(*plainConn); ok && len(pollers) > 0 && pollers[next%len(pollers)].add(plain) == nil {
		return
	}
	go a.attend(l)
}

// attend answers the requests of one connection until it ends.
func (a *attendant) attend(l lent) {
	f := l.ahead()
	defer f.conn.Close() // closing twice is harmless
	defer f.leave()
	if f.conn.SetReadDeadline(time.Now().Add(readWithin)) != nil {
		return
	}
	for phase := phaseNew; f.await(phase, a.stopping) == nil; phase = phaseIdle {
		if a.goOn(l) != nil {
			return
		}
	}
}

// goOn answers what was read, and all else that comes before the client waits. It fails when the connection is at its end.
func (a *attendant) goOn(l lent) error {
	f := l.ahead()
	if err := f.answer(); err != nil || f.room == nil {
		return err
	}
	f.between, f.returned = false, false
	_ = a.http.ServeConn(l) // a client that has left, or has sent rubbish and was told so
	f.renewed = time.Time{} // it sets deadlines of its own
	if !f.returned {
		return io.EOF
	}
	return nil
}

// await waits for a request. It fails when there is to be none.
func (f *front) await(phase int32, stopping *atomic.Bool) error {
	f.own.phase.Store(phase)
	if phase != phaseNew && stopping.Load() { // later than the phase, so a stop that does not see the one is seen here
		return net.ErrClosed
	}
	err := f.fetch()
	if !f.own.phase.CompareAndSwap(phase, phaseBusy) {
		return net.ErrClosed
	}
	return err
}

// lentPhase is called by fasthttp when it begins and ends to answer a request.
func lentPhase(c net.Conn, state fasthttp.ConnState) {
	if l, ok := c.(lent); ok {
		l.ahead().between = state == fasthttp.StateIdle
	}
}
