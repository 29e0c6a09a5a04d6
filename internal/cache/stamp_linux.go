package cache

import (
	"os"
	"syscall"
)

// stampOf returns when a file was last changed, in nanoseconds since 1970: its bytes, its length, its name or its owner.
// Nobody can set that time, as one can the time of modification.
func stampOf(info os.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano()
	}
	return info.ModTime().UnixNano()
}
