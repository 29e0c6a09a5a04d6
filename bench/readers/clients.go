package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mirror/internal/oci"
)

const (
	// clientsOfAddress is how many clients share an address of 127.0.0.0/8: fewer than the server lets in from one.
	clientsOfAddress = 2000
	// connecting is how many clients connect at once; more would overflow the queue of the listener, and wait a second.
	connecting = 64
)

// readAll reads the layer with all clients. It prints a line when all are connected and have asked, and one when all have
// everything.
func readAll(o options) error {
	d, err := oci.ParseDigest(o.digest)
	if err != nil {
		return err
	}
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: mirror\r\n\r\n", blobPath(d))
	conns, err := connectAll(o, request)
	if err != nil {
		return err
	}
	fmt.Println("connected")
	var wg sync.WaitGroup
	var failed atomic.Int64
	var first error
	var once sync.Once
	for _, c := range conns {
		wg.Go(func() {
			if err := readOne(c, o.size); err != nil {
				failed.Add(1)
				once.Do(func() { first = err })
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d clients did not get everything, one of them: %w", n, o.readers, first)
	}
	fmt.Println("done")
	return nil
}

func connectAll(o options, request string) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, o.readers)
	errs := make([]error, connecting)
	var wg sync.WaitGroup
	for k := range connecting {
		wg.Go(func() {
			for i := k; i < len(conns) && errs[k] == nil; i += connecting {
				conns[i], errs[k] = connect(o.address, i/clientsOfAddress, request)
			}
		})
	}
	wg.Wait()
	return conns, errors.Join(errs...)
}

// connect connects from the n-th loopback address and asks for the layer.
func connect(address string, n int, request string) (*net.TCPConn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n))}, Timeout: time.Minute}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, request)
	return conn.(*net.TCPConn), err
}

// readOne reads an answer: the head, byte by byte because nothing of the body may be lost, then size bytes of body.
func readOne(c *net.TCPConn, size int64) error {
	defer c.Close()
	head := make([]byte, 0, 512)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		head = head[:len(head)+1]
		if _, err := c.Read(head[len(head)-1:]); err != nil {
			return fmt.Errorf("read head: %w", err)
		}
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || !bytes.Contains(head, []byte("Content-Length: "+strconv.FormatInt(size, 10)+"\r\n")) {
		return fmt.Errorf("answer is %q", head)
	}
	return drop(c, size)
}

// drop reads size bytes and nothing more. MSG_TRUNC lets the kernel drop them without a copy, so no client has a buffer.
func drop(c *net.TCPConn, size int64) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var end error
	err = raw.Read(func(fd uintptr) bool {
		for size > 0 {
			n, _, err := unix.Recvfrom(int(fd), nothing[:min(size, int64(len(nothing)))], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			if errors.Is(err, syscall.EAGAIN) {
				return false
			}
			if err == nil && n == 0 {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				end = fmt.Errorf("%d bytes are missing: %w", size, err)
				return true
			}
			size -= int64(n)
		}
		return true
	})
	return errors.Join(err, end)
}

// nothing is only a length: the kernel writes nothing to it.
var nothing [1 << 20]byte
