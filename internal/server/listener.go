package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// firstPause and lastPause bound the wait after an accept that failed for a passing reason.
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
	// warnEvery is how often refusals are logged; the line says how many there were.
	warnEvery = time.Minute
)

// listener hands out connections within the bounds of a crowd. One that does not fit is closed without a word: writing
// a refusal would mean a TLS handshake in the loop that everybody else is waiting for.
type listener struct {
	net.Listener
	crowd *crowd
	log   *slog.Logger
	// usual is the congestion control of connections from other machines; empty: that of the listener.
	usual string

	closing chan struct{}
	once    sync.Once
	err     error

	// What follows belongs to the one goroutine that accepts.
	refused int
	warned  time.Time
}

func newListener(ln net.Listener, c *crowd, log *slog.Logger) *listener {
	return &listener{Listener: ln, crowd: c, log: log, closing: make(chan struct{})}
}

// Accept returns the next connection that fits. It outlasts failures that pass, such as a lack of descriptors.
func (l *listener) Accept() (net.Conn, error) {
	pause := firstPause
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			pause = firstPause
			if own, err := l.take(c); own != nil || err != nil {
				return own, err
			}
			continue
		}
		if !passing(err) {
			return nil, err
		}
		l.log.Warn("accept is paused", "error", err, "duration", pause)
		if !l.sleep(pause) {
			return nil, net.ErrClosed
		}
		pause = min(2*pause, lastPause)
	}
}

// take admits a connection or closes it. It returns an untyped nil for one that was refused.
func (l *listener) take(c net.Conn) (net.Conn, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("accept: connection is %T, and this server needs TCP", c)
	}
	own, ok := l.crowd.admit(tcp)
	if !ok {
		l.refuse(tcp)
		return nil, nil
	}
	_ = pace(tcp, l.usual) // one that is closed already is noticed by whoever reads it
	select {
	case <-l.closing: // a stop may have counted the crowd already
		_ = own.Close()
		return nil, net.ErrClosed
	default:
		return own, nil
	}
}

// refuse closes a connection and says so, but not each time.
func (l *listener) refuse(tcp *net.TCPConn) {
	_ = tcp.Close()
	l.refused++
	if now := time.Now(); now.Sub(l.warned) >= warnEvery {
		l.log.Warn(fmt.Sprintf("%d connections refused: the limit is %d in all and %d from one address",
			l.refused, l.crowd.total, l.crowd.perAddress))
		l.refused, l.warned = 0, now
	}
}

// sleep waits, and reports false when the listener was closed meanwhile.
func (l *listener) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closing:
		return false
	}
}

// Close stops accepting. The second call returns what the first did.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closing)
		l.err = l.Listener.Close()
	})
	return l.err
}

// passing reports whether an accept may work again later: descriptors or memory are short, or one client left
// between its knock and our answer.
func passing(err error) bool {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
