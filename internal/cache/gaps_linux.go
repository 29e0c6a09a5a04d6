package cache

import (
	"os"

	"golang.org/x/sys/unix"
)

// punch gives back the blocks of a file that lie in a span, which then reads as zeros.
func punch(file *os.File, s Span) error {
	return unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.Start, s.Len())
}
