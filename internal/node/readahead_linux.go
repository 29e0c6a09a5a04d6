package node

import (
	"os"

	"golang.org/x/sys/unix"
)

// aheadStep is how many bytes one call asks for. The kernel cuts each call to what it would read ahead by itself, which is
// 128 KiB where nobody has changed it.
const aheadStep = 128 << 10

// wantPages asks for the first size bytes of a file to be read into the page cache. The kernel may decline.
func wantPages(file *os.File, size int64) {
	for off := int64(0); off < size; off += aheadStep {
		if unix.Fadvise(int(file.Fd()), off, aheadStep, unix.FADV_WILLNEED) != nil {
			return
		}
	}
}
