package cache

import (
	"os"
	"runtime"
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

// lengthAndStamp returns the length of an open file in bytes, and its stamp (stampOf). Each reader of long content asks for
// both, and os.File.Stat makes an object of all that there is to know of a file.
func lengthAndStamp(file *os.File) (length, stamp int64, err error) {
	var s syscall.Stat_t
	for {
		if err = syscall.Fstat(int(file.Fd()), &s); err != syscall.EINTR {
			break
		}
	}
	runtime.KeepAlive(file)
	return s.Size, s.Ctim.Nano(), os.NewSyscallError("fstat", err)
}
