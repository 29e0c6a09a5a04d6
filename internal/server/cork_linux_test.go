package server

import (
	"bytes"
	"io"
	"net"
	"syscall"
	"testing"
)

// corked reads the option back.
func corked(t *testing.T, c *conn) bool {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		value, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value != 0
}

func TestCork(t *testing.T) {
	server, _ := tcpPair(t)
	own, _ := testCrowd(1, 1).admit(server)
	for _, on := range []bool{true, false} {
		own.cork(on)
		if corked(t, own) != on {
			t.Errorf("cork(%v) left the connection the other way", on)
		}
	}
	_ = own.Close()
	own.cork(true) // whoever writes sees that it is closed
}

// TestOnlyStoredContentIsCorked looks at the connection while a body is written, and after it: what is left corked is late for 200 ms.
func TestOnlyStoredContentIsCorked(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 1000)
	for name, c := range map[string]struct {
		stored bool
		fail   error
	}{
		"stored":           {true, nil},
		"stored, and lost": {true, io.ErrUnexpectedEOF},
		"arriving":         {false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server, _ := tcpPair(t)
			own, _ := testCrowd(1, 1).admit(server)
			look := &looking{t: t, conn: own}
			b := &body{
				server: newTestServer(t, io.Discard), rec: new(record), conn: net.Conn(own), stored: c.stored, size: int64(len(content)),
				content: &fileContent{tempFile(t, content), c.fail}, parts: []part{{span: span{0, int64(len(content))}}},
			}
			if _, err := b.WriteTo(look); (err != nil) != (c.fail != nil) {
				t.Error(err)
			}
			if look.corked != c.stored || corked(t, own) {
				t.Errorf("corked while it was written: %v, after it: %v; want %v and never", look.corked, corked(t, own), c.stored)
			}
		})
	}
}

// looking is where a body goes, and looks at the connection meanwhile.
type looking struct {
	t      *testing.T
	conn   *conn
	corked bool
}

func (l *looking) Write(p []byte) (int, error) {
	l.corked = l.corked || corked(l.t, l.conn)
	return len(p), nil
}
