package server

import (
	"errors"
	"os"
	"syscall"
)

// These calls return at once. They leave alone what the runtime knows of the descriptor.

// readNow reads what has come. It returns syscall.EAGAIN when that is nothing, and zero at the end.
func readNow(fd int, b []byte) (n int, err error) {
	for {
		if n, err = syscall.Read(fd, b); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// writeNow writes what the kernel takes, which may be nothing.
func writeNow(fd int, b []byte) (n int, err error) {
	for {
		n, err = syscall.Write(fd, b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		default:
			return 0, os.NewSyscallError("write", err)
		}
	}
}
