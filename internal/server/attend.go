package server

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// The phases of a connection. One that a stop finds between two requests is closed by it, and by nobody else.
const (
	phaseNew  int32 = iota // nothing was asked for yet
	phaseIdle              // between two requests
	phaseBusy
	phaseGone // closed by a stop
)

// attendant answers the connections of listeners: a goroutine waits for the requests of each, with little on its stack, answers
// what it can itself, and lends the connection to fasthttp from the first request that it cannot to the moment when fasthttp would
// wait for the next. A node has thousands of connections that wait, and fasthttp's frames alone would keep the stack of each
// at 8 KiB.
type attendant struct {
	http   *fasthttp.Server
	rooms  *sync.Pool
	server *Server // nil: fasthttp answers everything
	// stopping says that no connection is to wait for another request.
	stopping *atomic.Bool
}

// serve answers the connections of ln until that is closed; then it returns nil.
func (a *attendant) serve(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go a.attend(c)
	}
}

// attend answers the requests of one connection until it ends.
func (a *attendant) attend(c net.Conn) {
	defer c.Close() // closing twice is harmless
	l, err := newLent(c, a.rooms, a.server)
	if err != nil || c.SetReadDeadline(time.Now().Add(readWithin)) != nil {
		return
	}
	f := l.ahead()
	defer f.leave()
	for phase := phaseNew; f.await(phase, a.stopping); phase = phaseIdle {
		if f.answer() != nil || f.room != nil && !a.lend(l) {
			return
		}
	}
}

// await waits for a request, and reports whether there is one.
func (f *front) await(phase int32, stopping *atomic.Bool) bool {
	f.own.phase.Store(phase)
	if phase == phaseIdle && stopping.Load() { // later than the phase, so a stop that does not see the one is seen here
		return false
	}
	return f.fetch() == nil && f.own.phase.CompareAndSwap(phase, phaseBusy)
}

// lend lets fasthttp answer what was read and what follows, up to the next time that it waits. It reports whether the
// connection is still open then.
func (a *attendant) lend(l lent) bool {
	f := l.ahead()
	f.between, f.returned = false, false
	_ = a.http.ServeConn(l) // a client that has left, or has sent rubbish and was told so
	return f.returned
}

// lentPhase is called by fasthttp when it begins and ends to answer a request.
func lentPhase(c net.Conn, state fasthttp.ConnState) {
	if l, ok := c.(lent); ok {
		l.ahead().between = state == fasthttp.StateIdle
	}
}
