package server

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestFiles sends more of a file than fits into a connection, from its offset on, to a client that takes its time.
func TestFiles(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcde"), 1<<20)
	f := func(name string, from, limit, want int64) {
		t.Run(name, func(t *testing.T) {
			server, client := tcpPair(t)
			file := tempFile(t, content)
			if _, err := file.Seek(from, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got := make(chan []byte)
			go func() {
				time.Sleep(50 * time.Millisecond) // the connection is full by then
				b, _ := io.ReadAll(client)
				got <- b
			}()
			limited := &io.LimitedReader{R: file, N: limit}
			n, err := files{server}.ReadFrom(limited)
			if err != nil || n != want || limited.N != limit-want {
				t.Errorf("sent %d bytes, %v, %d left; want %d", n, err, limited.N, want)
			}
			_ = server.Close()
			if b := <-got; !bytes.Equal(b, content[from:from+want]) {
				t.Errorf("%d bytes arrived, others than were sent", len(b))
			}
		})
	}
	size := int64(len(content))
	f("all", 0, size, size)
	f("some", 4099, 3*sendPiece+7, 3*sendPiece+7)
	f("nothing", 0, 0, 0)
	f("a file that ends before", size-sendPiece-5, size, sendPiece+5)
}

// TestFilesToNobody fails as soon as the client is gone or its time is over.
func TestFilesToNobody(t *testing.T) {
	file := tempFile(t, make([]byte, 32<<20))
	f := func(name string, leave func(server, client *net.TCPConn), want ...error) {
		t.Run(name, func(t *testing.T) {
			server, client := tcpPair(t)
			_, _ = file.Seek(0, io.SeekStart)
			leave(server, client)
			n, err := files{server}.ReadFrom(&io.LimitedReader{R: file, N: 32 << 20})
			for _, one := range want {
				if errors.Is(err, one) && n < 32<<20 {
					return
				}
			}
			t.Errorf("sent %d bytes, %v; want one of %v", n, err, want)
		})
	}
	f("gone", func(_, client *net.TCPConn) { _, _ = client.SetLinger(0), client.Close() }, syscall.EPIPE, syscall.ECONNRESET)
	f("late", func(server, _ *net.TCPConn) { _ = server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) }, os.ErrDeadlineExceeded)
	f("closed here", func(server, _ *net.TCPConn) { _ = server.Close() }, net.ErrClosed)
}

// TestFilesThatCannot copies what the kernel does not send.
func TestFilesThatCannot(t *testing.T) {
	server, client := tcpPair(t)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.WriteString(in, "through a pipe"); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	if n, err := (files{server}).ReadFrom(&io.LimitedReader{R: out, N: 100}); err != nil || n != 14 {
		t.Errorf("sent %d bytes, %v", n, err)
	}
	_ = server.Close()
	if b, err := io.ReadAll(client); err != nil || string(b) != "through a pipe" {
		t.Errorf("got %q, %v", b, err)
	}
}
