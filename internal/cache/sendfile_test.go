package cache_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
)

// connection is one end of a TCP connection that counts by which way bytes go in.
type connection struct {
	*net.TCPConn
	written, sent int64
}

func (c *connection) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.written += int64(n)
	return n, err
}

// sender is a buffer over a connection that can send files, as a server has it.
type sender struct {
	*bufio.Writer
	conn *connection
}

// SendFile has the kernel send from a descriptor of its own, so that the offset of file stays.
func (s sender) SendFile(file *os.File, off, n int64) (int64, error) {
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return 0, err
	}
	defer own.Close()
	if _, err := own.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	if err := s.Flush(); err != nil {
		return 0, err
	}
	sent, err := s.conn.ReadFrom(&io.LimitedReader{R: own, N: n})
	s.conn.sent += sent
	return sent, err
}

// connect returns both ends of a loopback connection.
func connect(t *testing.T) (*connection, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return &connection{TCPConn: server.(*net.TCPConn)}, client
}

// TestSendfile: bytes of files, complete and growing, reach a connection that can send files right, behind what was buffered before
// them, and by that way alone where nobody else closes the file.
func TestSendfile(t *testing.T) {
	const n = 3 * mib
	b, d := content(n)
	f := func(name string, blob *cache.Blob, off, length, wantSent int64, open func()) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			conn, client := connect(t)
			sent := make(chan error, 1)
			go func() {
				w := sender{bufio.NewWriterSize(conn, 4*kib), conn}
				_, err := io.WriteString(w, "header\n")
				if err == nil {
					_, err = blob.WriteRange(w, off, length)
				}
				sent <- err
			}()
			want := append([]byte("header\n"), b[off:off+length]...)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(client, got[:mib]); err != nil { // arrives while the gate is closed
				t.Fatal(err)
			}
			open()
			if _, err := io.ReadFull(client, got[mib:]); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil || !bytes.Equal(got, want) {
				t.Errorf("right: %v, error: %v", bytes.Equal(got, want), err)
			}
			if conn.sent != wantSent || wantSent > 0 && conn.written != int64(len("header\n")) {
				t.Errorf("%d bytes were sent from files and %d written, want %d and the header", conn.sent, conn.written, wantSent)
			}
		})
	}
	stream := func(name string, wantSent int64, fault func(string) error) *cache.Cache {
		c := cachetest.Open(t, cachetest.Config(t))
		c.SetFault(fault)
		o := newOrigin(b)
		open := o.close(2*mib, n)
		defer open()
		f(name, fill(t, c, o.request(d)), 0, n, wantSent, open)
		cachetest.Settle(c)
		return c
	}
	c := stream("growing", n, func(string) error { return nil })
	stored := func() *cache.Blob { return opened(t, c, d, 1)[0] }
	f("complete", stored(), 0, n, n, func() {})
	f("range", stored(), 1000, 2*mib+1, 2*mib+1, func() {})
	var spent atomic.Bool // the fill closes its file when it fails, so nobody gives that away by its number
	spent.Store(true)
	stream("growing, without descriptors", 0, func(operation string) error {
		if operation == "open" && spent.Load() {
			return syscall.EMFILE
		}
		return nil
	})
	spent.Store(false) // for the check at the end
}
