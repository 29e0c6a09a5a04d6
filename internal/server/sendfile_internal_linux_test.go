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

// fileConn is a connection that files can be sent to, and its other end.
func fileConn(t *testing.T) (server *conn, client *net.TCPConn) {
	t.Helper()
	tcp, client := tcpPair(t)
	server, ok := testCrowd(1, 1).admit(tcp)
	if !ok {
		t.Fatal("not admitted")
	}
	return server, client
}

// TestSendFile sends more of a file than fits into a connection to a client that takes its time, from any offset on, and leaves the
// file's own.
func TestSendFile(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcde"), 1<<20)
	f := func(name string, from, limit, want int64) {
		t.Run(name, func(t *testing.T) {
			server, client := fileConn(t)
			file := tempFile(t, content)
			if _, err := file.Seek(7, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got := make(chan []byte)
			go func() {
				time.Sleep(50 * time.Millisecond) // the connection is full by then
				b, _ := io.ReadAll(client)
				got <- b
			}()
			n, err := server.SendFile(file, from, limit)
			if err != nil || n != want {
				t.Errorf("sent %d bytes, %v; want %d", n, err, want)
			}
			if at, err := file.Seek(0, io.SeekCurrent); at != 7 || err != nil {
				t.Errorf("the file is at %d, %v", at, err)
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
	f("a file that ends with a slice", size-writeSlice, size, writeSlice)
}

// TestSendFileToNobody fails as soon as the client is gone or its time is over.
func TestSendFileToNobody(t *testing.T) {
	file := tempFile(t, make([]byte, 32<<20))
	f := func(name string, leave func(server *conn, client *net.TCPConn), want ...error) {
		t.Run(name, func(t *testing.T) {
			server, client := fileConn(t)
			leave(server, client)
			n, err := server.SendFile(file, 0, 32<<20)
			for _, one := range want {
				if errors.Is(err, one) && n < 32<<20 {
					return
				}
			}
			t.Errorf("sent %d bytes, %v; want one of %v", n, err, want)
		})
	}
	f("gone", func(_ *conn, client *net.TCPConn) { _, _ = client.SetLinger(0), client.Close() }, syscall.EPIPE, syscall.ECONNRESET)
	f("late", func(server *conn, _ *net.TCPConn) { _ = server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) }, os.ErrDeadlineExceeded)
	f("closed here", func(server *conn, _ *net.TCPConn) { _ = server.Close() }, net.ErrClosed)
}

// TestSendFileThatCannot copies what the kernel does not send.
func TestSendFileThatCannot(t *testing.T) {
	const limits = "/proc/self/limits" // Linux knows of no pages of it
	want, err := os.ReadFile(limits)
	if err != nil {
		t.Fatal(err)
	}
	server, client := fileConn(t)
	file, err := os.Open(limits)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n, err := server.SendFile(file, 3, 1<<20)
	if err != nil || n != int64(len(want))-3 {
		t.Errorf("sent %d bytes, %v", n, err)
	}
	_ = server.Close()
	if b, err := io.ReadAll(client); err != nil || !bytes.Equal(b, want[3:]) {
		t.Errorf("got %q, %v", b, err)
	}
}
