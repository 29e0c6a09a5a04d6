package server

import (
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// writeSlice is how many bytes are written under one deadline, and writeWithin how long that may take: together the
	// slowest client that is served, about 17 KiB/s. A deadline for a whole body would cut every large layer.
	writeSlice  = 1 << 20
	writeWithin = time.Minute
	// armedFor is the part of that by which a deadline may be too near.
	armedFor = 8
	// lingerFor and lingerBytes bound how long a connection that is closed early waits for the client to stop sending,
	// and how much of it is read. Closing with unread bytes makes the kernel send a reset, which can destroy what the
	// client has not read yet.
	lingerFor   = time.Second
	lingerBytes = 1 << 20
)

// conn is a connection of a client. It embeds the TCP connection, and not an interface, because what a source sends is passed on
// without copying only when fasthttp's buffer finds ReadFrom on what it writes to.
type conn struct {
	*net.TCPConn
	raw   syscall.RawConn // of TCPConn, which makes one for each who asks
	crowd *crowd
	// from is the address range that the connection counts for, since is when it came.
	from  netip.Prefix
	since time.Time
	phase atomic.Int32
	// active is when the last request was answered, in nanoseconds since 1970, if a poller waits for the next.
	active atomic.Int64
	// poller is what waits for requests, nil when a goroutine of the connection does; fd is its descriptor there.
	poller atomic.Pointer[poller]
	fd     int32
	// limit is the write deadline set from outside, in nanoseconds since 1970; zero is none. TLS sets one before its
	// last message, and the deadlines of slices must not extend it.
	limit atomic.Int64
	// armed is the deadline that the last slice was given, in the same unit; zero when it has another one by now.
	armed  atomic.Int64
	linger atomic.Bool
	// sending is nil until a file is sent.
	sending atomic.Pointer[sending]
	// noWait is for reads by the goroutine that sets it.
	noWait bool
	once   sync.Once
}

// errNoBytes is what a read that does not wait finds. TLS goes on after it, because it is temporary.
var errNoBytes net.Error = &noBytes{}

type noBytes struct{}

func (*noBytes) Error() string   { return "no bytes have come yet" }
func (*noBytes) Timeout() bool   { return true }
func (*noBytes) Temporary() bool { return true }

// SyscallConn gives access to the descriptor.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// Read reads what has come, and waits for the first of it unless noWait is set.
func (c *conn) Read(p []byte) (int, error) {
	if !c.noWait {
		return c.TCPConn.Read(p)
	}
	n, err := 0, error(nil)
	if rawErr := c.raw.Read(func(fd uintptr) bool { n, err = syscall.Read(int(fd), p); return true }); rawErr != nil {
		return 0, rawErr
	}
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return 0, errNoBytes
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes p in slices, each under its own deadline.
func (c *conn) Write(p []byte) (int, error) {
	written := 0
	for {
		slice := p[written:min(written+writeSlice, len(p))]
		if err := c.arm(); err != nil {
			return written, err
		}
		n, err := c.TCPConn.Write(slice)
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// inSlices has n bytes sent in slices of at most writeSlice, and calls before ahead of each; send is told how many have been sent, and ends
// it when it sends less than it should. Between two slices others have their turn: a client that reads as fast as it is sent
// to would keep the processor else, and with 64 of them one layer took three times as long as another.
func inSlices(n int64, before func() error, send func(sent, n int64) (int64, error)) (sent int64, err error) {
	for sent < n {
		if sent > 0 {
			runtime.Gosched()
		}
		if err := before(); err != nil {
			return sent, err
		}
		slice := min(n-sent, writeSlice)
		moved, err := send(sent, slice)
		sent += moved
		if err != nil || moved < slice {
			return sent, err
		}
	}
	return sent, nil
}

// copySlices hands r to dst in slices. When r is a limited reader its source is handed on behind the new limit alone, because
// two limits hide from the kernel what it can copy itself.
func copySlices(dst io.ReaderFrom, r io.Reader, before func() error) (int64, error) {
	source, n := r, int64(math.MaxInt64)
	limited, ok := r.(*io.LimitedReader)
	if ok {
		source, n = limited.R, limited.N
	}
	sent, err := inSlices(n, before, func(_, n int64) (int64, error) { return dst.ReadFrom(&io.LimitedReader{R: source, N: n}) })
	if ok {
		limited.N -= sent
	}
	return sent, err
}

// ReadFrom sends what r holds in slices, each under its own deadline.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return copySlices(c.TCPConn, r, c.arm) }

// SendFile sends n bytes of file from off on, or as many as there are, as ReadFrom does. The file's own offset stays as it is.
func (c *conn) SendFile(file *os.File, off, n int64) (int64, error) {
	return inSlices(n, c.arm, func(sent, n int64) (int64, error) { return c.sendSlice(file, off+sent, n) })
}

// arm sets the deadline of the next slice. One that is nearly as far away stays: setting it takes a lock of the runtime's
// timers, which a small answer feels.
func (c *conn) arm() error {
	now := time.Now()
	deadline := now.Add(c.crowd.patience)
	if limit := c.limit.Load(); limit != 0 && limit < deadline.UnixNano() {
		c.armed.Store(0)
		return c.TCPConn.SetWriteDeadline(time.Unix(0, limit))
	}
	if deadline.UnixNano()-c.armed.Load() < int64(c.crowd.patience/armedFor) {
		return nil
	}
	c.armed.Store(deadline.UnixNano())
	return c.TCPConn.SetWriteDeadline(deadline)
}

// SetWriteDeadline sets a deadline that holds across slices.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.limit.Store(0)
	} else {
		c.limit.Store(t.UnixNano())
	}
	c.armed.Store(0)
	return c.TCPConn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close closes the connection, in an orderly way when that was asked for. It is safe to call from several goroutines.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		if c.linger.Load() {
			c.drain()
		}
		err = c.TCPConn.Close()
		if p := c.poller.Load(); p != nil { // later: whoever was adding it has done so by then, or found it closed
			p.forget(c)
		}
		c.crowd.leave(c)
	})
	return err
}

// drain says that nothing more is coming and reads what the client still sends, for a while.
func (c *conn) drain() {
	if c.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerFor)) != nil {
		return
	}
	// Whatever ends this, the connection is closed next.
	_, _ = io.CopyN(io.Discard, c.TCPConn, lingerBytes)
}

// lingerOnClose makes Close orderly.
func (c *conn) lingerOnClose() { c.linger.Store(true) }

// lingerOf makes the closing of a connection orderly, through TLS too.
func lingerOf(c net.Conn) {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	if own, ok := c.(interface{ lingerOnClose() }); ok {
		own.lingerOnClose()
	}
}
