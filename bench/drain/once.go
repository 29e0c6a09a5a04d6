package drain

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Got is how one answer came.
type Got struct {
	First time.Duration // until the first bytes of the answer after its head
	All   time.Duration
	Bytes int64
}

// Once asks on a connection of its own and has the body dropped.
func Once(ctx context.Context, address string, r Request) (got Got, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return got, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	begun := time.Now()
	if _, err := conn.Write(r.bytes(address, true)); err != nil {
		return got, fmt.Errorf("send request: %w", err)
	}
	head, err := readHead(conn)
	if err != nil {
		return got, err
	}
	length, err := r.bodyLength(head)
	if err != nil {
		return got, err
	}
	watch := &watch{begun: begun}
	err = Drop(conn.(*net.TCPConn), length, watch.saw)
	watch.got.All = time.Since(begun)
	return watch.got, err
}

// watch keeps when bytes came.
type watch struct {
	begun time.Time
	got   Got
}

func (w *watch) saw(n int) {
	if w.got.Bytes == 0 {
		w.got.First = time.Since(w.begun)
	}
	w.got.Bytes += int64(n)
}

// readHead reads byte by byte, because nothing of the body may be lost.
func readHead(conn net.Conn) ([]byte, error) {
	head := make([]byte, 0, 1024)
	for len(head) < headRoom {
		var one [1]byte
		if _, err := conn.Read(one[:]); err != nil {
			return nil, fmt.Errorf("read head: %w", err)
		}
		if head = append(head, one[0]); len(head) >= 4 && string(head[len(head)-4:]) == string(endOfHead) {
			return head, nil
		}
	}
	return nil, fmt.Errorf("head is longer than %d bytes", headRoom)
}

// Drop has the kernel drop size bytes of a connection, and nothing more; a negative size means up to the end. saw, if
// there is one, is told how many came at a time.
func Drop(conn *net.TCPConn, size int64, saw func(int)) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	d := &dropper{left: size, open: size < 0, saw: saw}
	err = raw.Read(d.take)
	return errors.Join(err, d.err)
}

// dropper is the state of Drop. open says that only the end of the connection ends it.
type dropper struct {
	left int64
	open bool
	saw  func(int)
	err  error
}

// take drops what is there and reports whether that was all.
func (d *dropper) take(fd uintptr) bool {
	for d.open || d.left > 0 {
		most := int64(len(nothing))
		if !d.open {
			most = min(most, d.left)
		}
		n, _, err := unix.Recvfrom(int(fd), nothing[:most], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return false
		case err == nil && n == 0 && d.open:
			return true
		case err == nil && n == 0:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			d.err = fmt.Errorf("%d bytes are missing: %w", d.left, err)
			return true
		}
		d.left -= int64(n)
		if d.saw != nil {
			d.saw(n)
		}
	}
	return true
}

// nothing is only a length: the kernel writes nothing to it.
var nothing [1 << 20]byte

// recordShare is how much longer a TLS 1.3 stream may be than what it carries, and headShare how much its messages beside
// that may take.
const (
	recordShare = 1.06
	headShare   = 64 << 10
)

// OnceTLS is Once through TLS 1.3. The records are dropped as they come, sealed: opening them would cost the clients as
// much as sealing costs the server. So all that is checked is that as many bytes came as the body needs, and hardly more.
func OnceTLS(ctx context.Context, address string, config *tls.Config, r Request, size int64) (got Got, err error) {
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return got, err
	}
	stop := context.AfterFunc(ctx, func() { _ = plain.Close() })
	defer stop()
	defer plain.Close()
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return got, fmt.Errorf("shake hands: %w", err)
	}
	begun := time.Now()
	if _, err := conn.Write(r.bytes(address, true)); err != nil {
		return got, fmt.Errorf("send request: %w", err)
	}
	watch := &watch{begun: begun}
	if err := Drop(plain.(*net.TCPConn), -1, watch.saw); err != nil {
		return watch.got, err
	}
	watch.got.All = time.Since(begun)
	if n := watch.got.Bytes; n < size || float64(n) > float64(size)*recordShare+headShare {
		return watch.got, fmt.Errorf("%s: %d bytes came for a body of %d", r.Path, n, size)
	}
	watch.got.Bytes = size
	return watch.got, nil
}
