package drain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Load is what Run does: connections that each ask for one thing after the other.
type Load struct {
	Address     string
	Connections int
	// For is how long it is measured, after WarmUp.
	For, WarmUp time.Duration
	// Next is what connection number conn asks for next. It is called by one goroutine.
	Next func(conn int) Request
	// Begin and End are called when measuring begins and ends.
	Begin, End func() error
}

// Result is what came while it was measured.
type Result struct {
	Requests int64
	Bytes    int64 // of bodies, of requests under way too
	Elapsed  time.Duration
	Latency  Histogram // of complete requests
}

// lane is a connection of the loop.
type lane struct {
	number  int
	fd      int
	request Request
	raw     []byte // the request as it is sent
	asked   time.Time
	head    []byte // what has come of a head; empty while a body comes
	left    int64  // of the body
	inBody  bool
}

// loop serves all connections from one goroutine: a goroutine for each would cost the core of the clients more than the
// kernel does.
type loop struct {
	load    Load
	epoll   int
	lanes   []*lane
	byFD    map[int32]*lane
	nothing []byte // only a length: the kernel writes nothing to it
	result  *Result
}

// headRoom is the longest head that is understood, in bytes.
const headRoom = 16 << 10

// Run loads a server and returns what it did. The first answer that is not as asked for ends it.
func Run(ctx context.Context, l Load) (result Result, err error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return result, fmt.Errorf("create epoll: %w", err)
	}
	p := &loop{load: l, epoll: epoll, byFD: make(map[int32]*lane), nothing: make([]byte, 1<<20), result: new(Result)}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.connect(ctx); err != nil {
		return result, err
	}
	if err := p.serve(ctx, l.WarmUp); err != nil {
		return result, err
	}
	*p.result = Result{}
	if err := call(l.Begin); err != nil {
		return result, err
	}
	begun := time.Now()
	if err := p.serve(ctx, l.For); err != nil {
		return result, err
	}
	p.result.Elapsed = time.Since(begun)
	return *p.result, call(l.End)
}

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

func (p *loop) close() error {
	for _, c := range p.lanes {
		_ = unix.Close(c.fd) // nothing more is read
	}
	return unix.Close(p.epoll)
}

// connect opens the connections and asks on each.
func (p *loop) connect(ctx context.Context) error {
	for n := range p.load.Connections {
		fd, err := dialFD(ctx, p.load.Address)
		if err != nil {
			return err
		}
		c := &lane{number: n, fd: fd, head: make([]byte, 0, headRoom)}
		p.lanes, p.byFD[int32(fd)] = append(p.lanes, c), c
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("watch connection: %w", err)
		}
		if err := p.ask(c); err != nil {
			return err
		}
	}
	return nil
}

// dialFD connects and takes the descriptor from the runtime.
func dialFD(ctx context.Context, address string) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return 0, err
	}
	defer file.Close()
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		return 0, err
	}
	return fd, unix.SetNonblock(fd, true)
}

// ask sends the next request of a connection. It is short, so it never waits for room.
func (p *loop) ask(c *lane) error {
	if r := p.load.Next(c.number); c.raw == nil || r != c.request {
		c.request, c.raw = r, r.bytes(p.load.Address, false)
	}
	c.head, c.inBody, c.asked = c.head[:0], false, time.Now()
	n, err := unix.Write(c.fd, c.raw)
	if err == nil && n < len(c.raw) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	return nil
}

// serve reads what comes until the time is over.
func (p *loop) serve(ctx context.Context, d time.Duration) error {
	events := make([]unix.EpollEvent, 256)
	for until := time.Now().Add(d); ; {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.EpollWait(p.epoll, events, int(min(left, 100*time.Millisecond).Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for answers: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if err := p.read(p.byFD[e.Fd]); err != nil {
				return err
			}
		}
	}
}

// read takes what a connection has, once: a connection that always has more must not starve the others.
func (p *loop) read(c *lane) error {
	if !c.inBody {
		return p.readHead(c)
	}
	n, _, err := unix.Recvfrom(c.fd, p.nothing[:min(c.left, int64(len(p.nothing)))], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err == nil && n == 0:
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %d bytes are missing: %w", c.request.Path, c.left, err)
	}
	return p.took(c, int64(n))
}

// readHead reads a head with what of the body comes along.
func (p *loop) readHead(c *lane) error {
	n, err := unix.Read(c.fd, c.head[len(c.head):cap(c.head)])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err == nil && n == 0:
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: read answer: %w", c.request.Path, err)
	}
	c.head = c.head[:len(c.head)+n]
	end := bytes.Index(c.head, endOfHead)
	if end < 0 && len(c.head) == cap(c.head) {
		return fmt.Errorf("%s: head is longer than %d bytes", c.request.Path, headRoom)
	}
	if end < 0 {
		return nil
	}
	end += len(endOfHead)
	if c.left, err = c.request.bodyLength(c.head[:end]); err != nil {
		return err
	}
	c.inBody = true
	return p.took(c, int64(len(c.head)-end))
}

// took counts bytes of a body and goes on to the next request at its end.
func (p *loop) took(c *lane, n int64) error {
	if n > c.left {
		return fmt.Errorf("%s: %d bytes came after the answer", c.request.Path, n-c.left)
	}
	c.left -= n
	p.result.Bytes += n
	if c.left > 0 {
		return nil
	}
	p.result.Requests++
	p.result.Latency.Add(time.Since(c.asked))
	return p.ask(c)
}
