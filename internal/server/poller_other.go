//go:build !linux

package server

import (
	"errors"
	"syscall"
)

// poller is for Linux. Elsewhere each connection has a goroutine that waits.
type poller struct{}

func newPollers(*attendant) []*poller { return nil }

func (*poller) add(*plainConn) error { return errors.ErrUnsupported }

func (*poller) forget(*conn) {}

func (*poller) close() {}

// readNow reads what has come. It returns syscall.EAGAIN when that is nothing, and zero at the end.
func readNow(fd int, b []byte) (n int, err error) {
	for {
		if n, err = syscall.Read(fd, b); err != syscall.EINTR {
			return n, err
		}
	}
}

func writeNow(int, []byte) (int, error) { return 0, errors.ErrUnsupported }
