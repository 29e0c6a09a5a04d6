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
	// renewAfter is how old the deadline of an idle connection may become while its requests are answered here, where
	// fasthttp does not see them.
	renewAfter = idleFor / 8
)

// room is what the reading and answering of requests needs for a moment. Idle connections have none.
type room struct {
	in  [roomSize]byte
	out []byte
	rec record
}

// front reads the requests of a connection before fasthttp does. It answers those that are hits in memory itself (quick.go), and
// passes on the others as they came, with all that follows.
//
// fasthttp gives the buffers of idle connections back, and reads the first byte of each request alone: that is where it is
// between two requests, and where the front may take one. One goroutine at a time reads.
type front struct {
	conn   net.Conn        // *conn or *tls.Conn
	raw    syscall.RawConn // nil under TLS
	rooms  *sync.Pool      // of *room
	server *Server         // nil when nothing is answered here
	arrive func(fd uintptr) bool

	room       *room // nil when nothing is read ahead
	next, have int   // room.in[next:have] was read and not passed on
	err        error // of arrive
	first      [1]byte
	renewed    time.Time
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

func (c *plainConn) Read(p []byte) (int, error)  { return c.front.pass(p) }
func (c *secureConn) Read(p []byte) (int, error) { return c.front.pass(p) }

// frontListener puts a front before each connection of a listener.
type frontListener struct {
	net.Listener
	rooms  *sync.Pool
	server *Server // nil: nothing is answered in front
}

// Accept returns the next connection.
func (l *frontListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	f := front{rooms: l.rooms, server: l.server}
	if secure, ok := c.(*tls.Conn); ok {
		f.conn = secure
		return &secureConn{secure, f}, nil
	}
	own, ok := c.(*conn)
	if !ok {
		return c, nil
	}
	plain := &plainConn{own, f}
	plain.front.conn, plain.front.arrive = own, plain.front.read
	if plain.front.raw, err = own.SyscallConn(); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return plain, nil
}

// pass passes on what the client sends, but for the requests that were answered.
func (f *front) pass(p []byte) (int, error) {
	if f.room == nil && len(p) != 1 {
		return f.conn.Read(p)
	}
	for f.room == nil {
		if err := f.fetch(); err != nil {
			return 0, err
		}
		if err := f.answer(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.room.in[f.next:f.have])
	if f.next += n; f.next == f.have {
		f.leave()
	}
	return n, nil
}

// enter takes a room, leave gives it back.
func (f *front) enter() {
	f.room = f.rooms.Get().(*room)
	f.next, f.have = 0, 0
}

func (f *front) leave() {
	f.rooms.Put(f.room)
	f.room = nil
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
	n, err := syscall.Read(int(fd), f.room.in[:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), f.room.in[:])
	}
	if n > 0 {
		f.have = n
		return true
	}
	f.leave()
	switch err {
	case nil:
		f.err = io.EOF
	case syscall.EAGAIN:
		return false
	default:
		f.err = os.NewSyscallError("read", err)
	}
	return true
}

// fetchSecure waits for the first byte. The rest of its record is there then.
func (f *front) fetchSecure() error {
	if _, err := io.ReadFull(f.conn, f.first[:]); err != nil {
		return err
	}
	f.enter()
	f.room.in[0] = f.first[0]
	n, _ := f.conn.Read(f.room.in[1:]) // an error, which may come with bytes, comes again
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
		if length == 0 || err != nil {
			return err
		}
		f.next += length
	}
	f.leave()
	return nil
}

// renew keeps a connection from becoming idle for fasthttp, which has set the deadline before the first of these requests.
func (f *front) renew(now time.Time) error {
	if now.Sub(f.renewed) < renewAfter {
		return nil
	}
	f.renewed = now
	return f.conn.SetReadDeadline(now.Add(idleFor))
}
