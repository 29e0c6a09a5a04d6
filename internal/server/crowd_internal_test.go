package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func testCrowd(total, perAddress int) *crowd {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		panic(err)
	}
	return newCrowd(m, total, perAddress)
}

func TestCrowdBounds(t *testing.T) {
	f := func(total, perAddress int) *crowd {
		t.Helper()
		crowd := testCrowd(total, perAddress)
		var admitted []*conn
		for range 3 {
			tcp, _ := tcpPair(t)
			if own, ok := crowd.admit(tcp); ok {
				admitted = append(admitted, own)
			}
		}
		if len(admitted) != 2 || crowd.size() != 2 || testutil.ToFloat64(crowd.metrics.connections) != 2 {
			t.Fatalf("%d and %d: admitted %d", total, perAddress, len(admitted))
		}
		// One that leaves makes room, however often it is closed.
		_, _ = admitted[0].Close(), admitted[0].Close()
		tcp, _ := tcpPair(t)
		if _, ok := crowd.admit(tcp); !ok || crowd.size() != 2 {
			t.Errorf("%d and %d: no room after one has left", total, perAddress)
		}
		return crowd
	}
	if c := f(2, 9); testutil.ToFloat64(c.metrics.refusedTotal) != 1 {
		t.Error("the refusal is not counted")
	}
	c := f(9, 2)
	if testutil.ToFloat64(c.metrics.refusedHost) != 1 {
		t.Error("the refusal is not counted")
	}
	for own := range c.conns { // all but one wait for their first request
		own.phase.Store(phaseNew)
	}
	for own := range c.conns {
		own.phase.Store(phaseBusy)
		break
	}
	if got := c.cut(); got != 1 {
		t.Errorf("cut %d connections that had something to do, want 1", got)
	}
}

func TestAddressRange(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		tcp := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
		if got := addressRange(tcp); got.String() != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
	f("192.0.2.7:1234", "192.0.2.7/32")
	f("[::ffff:192.0.2.7]:1234", "192.0.2.7/32")
	f("[2001:db8:1:2:3:4:5:6]:1234", "2001:db8:1:2::/64")
	f("[fe80::1%eth0]:1234", "fe80::/64")
	if got := addressRange(&net.UnixAddr{}); got.IsValid() {
		t.Errorf("a socket file has the range %s", got)
	}
}

// scriptedListener fails in the ways it is told, then hands out nil.
type scriptedListener struct {
	net.Listener
	errs []error
}

func (l *scriptedListener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return nil, net.ErrClosed
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func (l *scriptedListener) Close() error { return nil }

func (l *scriptedListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestAcceptOutlastsShortage checks that a lack of descriptors is waited for, longer each time, and not for ever.
func TestAcceptOutlastsShortage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shortage := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		l := newListener(&scriptedListener{errs: []error{shortage, shortage, syscall.ECONNABORTED}}, testCrowd(1, 1), slog.New(slog.DiscardHandler))
		start := time.Now()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited != 35*time.Millisecond {
			t.Errorf("waited %v, want 5+10+20 ms", waited)
		}
	})
}

func TestAcceptGivesUp(t *testing.T) {
	broken := errors.New("broken for good")
	l := newListener(&scriptedListener{errs: []error{broken}}, testCrowd(1, 1), slog.New(slog.DiscardHandler))
	if _, err := l.Accept(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := newListener(&scriptedListener{errs: []error{syscall.ENFILE}}, testCrowd(1, 1), slog.New(slog.DiscardHandler))
		go func() { _ = l.Close() }()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestFullServerRefusesWithoutAWord checks that one client too many does not hold up the accept loop.
func TestFullServerRefusesWithoutAWord(t *testing.T) {
	s := newTestServer(t, io.Discard)
	s.crowd = testCrowd(1, 1)
	addr, _ := serveContent(t, s, 5, func() content { return document("hello") })
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	soon(t, "the first is admitted", func() bool { return s.crowd.size() == 1 })
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := c.Read(make([]byte, 1)); n != 0 {
			t.Error("a refused connection was written to")
		}
		_ = c.Close()
	}
	_ = first.Close()
	soon(t, "there is room after the first has left", func() bool {
		status, _, err := fetch(addr)
		return err == nil && status == 200
	})
}

// TestDismiss closes connections that are between two requests, and those that have not asked for long enough.
func TestDismiss(t *testing.T) {
	f := func(phase int32, age time.Duration, gone bool) {
		t.Helper()
		server, client := tcpPair(t)
		c := testCrowd(1, 1)
		own, _ := c.admit(server)
		own.phase.Store(phase)
		own.since = time.Now().Add(-age)
		if n := c.dismiss(newcomerWaits); n != 1 || (own.phase.Load() == phaseGone) != gone {
			t.Errorf("phase %d, %v old: %d connections, phase %d", phase, age, n, own.phase.Load())
		}
		if gone {
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("phase %d, %v old: the client sees %v", phase, age, err)
			}
		}
	}
	f(phaseIdle, 0, true)
	f(phaseNew, 0, false)
	f(phaseNew, newcomerWaits, true)
	f(phaseBusy, time.Hour, false)
}

// TestLateGuest: a connection that is accepted while its listener closes is closed as well, because the stop may have counted.
func TestLateGuest(t *testing.T) {
	server, client := tcpPair(t)
	c := testCrowd(1, 1)
	l := newListener(closed{}, c, slog.New(slog.DiscardHandler))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if own, err := l.take(server); own != nil || !errors.Is(err, net.ErrClosed) || c.size() != 0 {
		t.Errorf("got %v, %v; %d in the crowd", own, err, c.size())
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client sees %v", err)
	}
}

// closed is a listener that can be closed.
type closed struct{ net.Listener }

func (closed) Close() error { return nil }
