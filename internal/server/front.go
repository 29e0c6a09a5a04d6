package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

const (
	// roomSize is how many bytes of requests are read at once: more than one request, mostly.
	roomSize = 4 << 10
	// renewAfter is by how much an idle connection may be closed too early: its deadline is not set for each request.
	renewAfter = idleFor / 8
)

// room is what the reading and answering of requests needs for a moment. Idle connections have none. What is in it need not be on
// the stack, which never shrinks as fast as it grows: the way to a quick answer fits into 4 KiB.
type room struct {
	in      [roomSize]byte
	out     []byte
	request glance
	hit     quickHit
	rec     record
	// headers is how long the headers in out are.
	headers int
}

// front reads the requests of a connection before fasthttp does. It answers those that are hits itself (quick.go), and lends the
// connection to fasthttp for the others, which get it as if nothing had been read. One goroutine at a time reads.
type front struct {
	conn   net.Conn        // *conn or *tls.Conn
	own    *conn           // what is below
	raw    syscall.RawConn // nil under TLS
	rooms  *sync.Pool      // of *room
	server *Server         // nil when nothing is answered here
	arrive func(fd uintptr) bool

	// What follows is for the turns of a poller: turn takes one, and turned is what ended it.
	turn   func(fd uintptr)
	turned error
	phase  int32
	behind bool // there may be something behind what one read gets
	// inTurn says that nothing may be waited for now. What fd did not take of an answer is in unsent.
	inTurn bool
	fd     int
	unsent []byte

	room       *room // nil when nothing is read ahead
	next, have int   // room.in[next:have] was read and not passed on
	err        error // of arrive
	first      [1]byte
	renewed    time.Time

	// between: fasthttp has answered a request and not seen a byte of the next. returned: it has got the end of the connection
	// for that, so closing it gives it back.
	between, returned bool
}

// lent is a connection as fasthttp gets it.
type lent interface {
	net.Conn
	ahead() *front
}

// plainConn and secureConn are connections with a front. They have every method of what they embed: fasthttp sends files
// without copying when it finds ReadFrom, and knows TLS by its methods.
type (
	plainConn struct {
		*conn
		front front
	}
	secureConn struct {
		*tls.Conn
		front front
	}
)

func (c *plainConn) ahead() *front              { return &c.front }
func (c *plainConn) Read(p []byte) (int, error) { return c.front.pass(p) }
func (c *plainConn) Close() error               { return c.front.close() }

// WriteTo hides that of the TCP connection, which knows nothing of what was read ahead.
func (c *plainConn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }

func (c *secureConn) ahead() *front              { return &c.front }
func (c *secureConn) Read(p []byte) (int, error) { return c.front.pass(p) }
func (c *secureConn) Close() error               { return c.front.close() }

// newLent puts a front before a connection.
func newLent(c net.Conn, rooms *sync.Pool, s *Server) lent {
	f := front{rooms: rooms, server: s}
	if secure, ok := c.(*tls.Conn); ok {
		f.conn, f.own = secure, secure.NetConn().(*conn)
		return &secureConn{secure, f}
	}
	own := c.(*conn)
	plain := &plainConn{own, f}
	plain.front.conn, plain.front.own, plain.front.arrive = own, own, plain.front.read
	plain.front.raw = own.raw
	return plain
}

// pass passes on what the client sends, and the end when a request is over: the next is read here.
func (f *front) pass(p []byte) (int, error) {
	switch {
	case f.room == nil && f.between:
		f.returned = true
		return 0, io.EOF
	case f.room == nil:
		return f.conn.Read(p)
	}
	n := copy(p, f.room.in[f.next:f.have])
	if f.next += n; f.next == f.have {
		f.leave()
	}
	return n, nil
}

// close closes the connection, unless it was lent and comes back.
func (f *front) close() error {
	if f.returned {
		return nil
	}
	return f.conn.Close()
}

// enter takes a room, leave gives it back.
func (f *front) enter() {
	f.room = f.rooms.Get().(*room)
	f.next, f.have = 0, 0
}

func (f *front) leave() {
	if f.room != nil {
		f.room.hit = quickHit{} // content that is evicted must not stay for it
		f.rooms.Put(f.room)
		f.room = nil
	}
}

// fetch waits for bytes without a room, and reads what has come into one.
func (f *front) fetch() error {
	if f.raw == nil {
		return f.fetchSecure()
	}
	f.err = nil
	if err := f.raw.Read(f.arrive); err != nil {
		return err
	}
	return f.err
}

// read is the f.arrive of a plain connection: it reads once, and reports false when there is nothing yet.
func (f *front) read(fd uintptr) bool {
	f.enter()
	n, err := readNow(int(fd), f.room.in[:])
	if n > 0 {
		f.have = n
		return true
	}
	f.leave()
	switch {
	case err == nil:
		f.err = io.EOF
	case errors.Is(err, syscall.EAGAIN):
		return false
	default:
		f.err = os.NewSyscallError("read", err)
	}
	return true
}

// fetchSecure waits for the first byte. The rest of its record is there then, if there is any: whoever sends one byte alone is not
// waited for here, where a connection counts as idle.
func (f *front) fetchSecure() error {
	if _, err := io.ReadFull(f.conn, f.first[:]); err != nil {
		return err
	}
	f.enter()
	f.room.in[0] = f.first[0]
	f.own.noWait = true
	n, _ := f.conn.Read(f.room.in[1:]) // an error, which may come with bytes, comes again
	f.own.noWait = false
	f.have = 1 + max(n, 0)
	return nil
}

// answer answers the whole requests at the front of what was read, up to the first that is fasthttp's. It leaves the room when that
// was all.
func (f *front) answer() (err error) {
	if f.server == nil {
		return nil
	}
	defer func() {
		if reason := recover(); reason != nil {
			f.server.metrics.panics.Inc()
			f.server.log.Error("panic while a request was answered", "error", fmt.Errorf("%v\n%s", reason, debug.Stack()))
			err = net.ErrClosed
		}
	}()
	for f.next < f.have {
		length, err := f.server.answerQuickly(f, f.room.in[f.next:f.have])
		f.next += length
		if length == 0 || err != nil {
			return err
		}
	}
	f.leave()
	return nil
}

// renew puts the time off at which the connection has been idle for too long.
func (f *front) renew(now time.Time) error {
	if f.own.poller.Load() != nil {
		f.own.active.Store(now.UnixNano())
		return nil
	}
	if now.Sub(f.renewed) < renewAfter {
		return nil
	}
	f.renewed = now
	return f.conn.SetReadDeadline(now.Add(idleFor))
}
