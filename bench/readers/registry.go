package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mirror/internal/oci"
)

// block is what the layer repeats: the step in which the registry delivers it.
const block = 64 << 10

// registry has one layer and delivers it at a steady rate. It knows as much HTTP as the mirror needs for that.
type registry struct {
	listener net.Listener
	digest   oci.Digest
	size     int64
	rate     int64 // bytes per second
	content  []byte
	sent     atomic.Int64
	requests atomic.Int64
	// open lets the layer go. Until then its requests wait, so that all readers are there from the first byte on.
	open chan struct{}
}

func newRegistry(size, rate int64) (*registry, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{listener: ln, size: size, rate: rate, content: make([]byte, block), open: make(chan struct{})}
	for i := range r.content {
		r.content[i] = byte(i * i >> 8)
	}
	hash := oci.SHA256.New()
	if _, err := io.CopyN(hash, &repeated{r.content, 0}, size); err != nil {
		return nil, err
	}
	r.digest, err = oci.ParseDigest(fmt.Sprintf("sha256:%x", hash.Sum(nil)))
	go r.accept()
	return r, err
}

// repeated reads a block again and again.
type repeated struct {
	block []byte
	off   int64
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.off%int64(len(r.block)):])
	r.off += int64(n)
	return n, nil
}

func (r *registry) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		go r.answer(conn)
	}
}

// answer serves the requests of one connection.
func (r *registry) answer(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		q, err := readRequest(in)
		switch {
		case err != nil:
			return // the mirror has left
		case !strings.HasSuffix(q.path, "/blobs/"+r.digest.String()):
			_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		case q.method == "HEAD":
			err = r.writeHead(conn, 0)
		default:
			err = r.deliver(conn, q.start)
		}
		if err != nil {
			return
		}
	}
}

// asked is what matters of a request: start is the first byte that its range asks for.
type asked struct {
	method, path string
	start        int64
}

func readRequest(in *bufio.Reader) (q asked, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return q, err
		}
		line = strings.TrimSpace(line)
		if q.method == "" {
			method, rest, _ := strings.Cut(line, " ")
			q.method = method
			q.path, _, _ = strings.Cut(rest, " ")
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Range") {
			first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(value), "bytes="), "-")
			q.start, _ = strconv.ParseInt(first, 10, 64) // no number means no range to us
		}
		if line == "" {
			return q, nil
		}
	}
}

// writeHead sends the headers of an answer with the layer from start on.
func (r *registry) writeHead(conn net.Conn, start int64) error {
	status := "200 OK"
	if start > 0 {
		status = fmt.Sprintf("206 Partial Content\r\nContent-Range: bytes %d-%d/%d", start, r.size-1, r.size)
	}
	_, err := fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: %d\r\nContent-Type: application/octet-stream\r\n\r\n", status, r.size-start)
	return err
}

// deliver sends the layer from start on, at the registry's rate.
func (r *registry) deliver(conn net.Conn, start int64) error {
	r.requests.Add(1)
	<-r.open
	if err := r.writeHead(conn, start); err != nil {
		return err
	}
	begin, source := time.Now(), &repeated{r.content, start}
	for sent := int64(0); sent < r.size-start; {
		n, err := io.CopyN(conn, source, min(block, r.size-start-sent))
		sent += n
		r.sent.Add(n)
		if err != nil {
			return err
		}
		time.Sleep(time.Until(begin.Add(time.Duration(float64(sent) / float64(r.rate) * float64(time.Second)))))
	}
	return nil
}
