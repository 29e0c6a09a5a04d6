package main

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// drop reads answers of o.size bytes until the connection ends, and says a byte after each. MSG_TRUNC lets the kernel drop
// them without a copy.
func drop(o options) error {
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", o.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	nothing := make([]byte, 1<<20) // only a length: the kernel writes nothing to it
	for {
		switch err := dropOne(raw, nothing, o.size); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if _, err := conn.Write(nothing[:1]); err != nil {
			return err
		}
	}
}

func dropOne(raw syscall.RawConn, nothing []byte, size int64) error {
	var end error
	err := raw.Read(func(fd uintptr) bool {
		for size > 0 {
			n, _, err := unix.Recvfrom(int(fd), nothing[:min(size, int64(len(nothing)))], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			if errors.Is(err, syscall.EAGAIN) {
				return false
			}
			if err == nil && n == 0 {
				err = io.EOF
			}
			if end = err; err != nil {
				return true
			}
			size -= int64(n)
		}
		return true
	})
	return errors.Join(err, end)
}
