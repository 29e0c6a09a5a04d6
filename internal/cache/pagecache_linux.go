package cache

import (
	"os"

	"golang.org/x/sys/unix"
)

// forgetPages takes a file out of the page cache. The kernel may decline, which costs others some room there.
func forgetPages(file *os.File) { _ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED) }
