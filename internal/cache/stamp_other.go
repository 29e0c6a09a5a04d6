//go:build !linux

package cache

import "os"

// stampOf returns when the bytes of a file were last changed, in nanoseconds since 1970.
func stampOf(info os.FileInfo) int64 { return info.ModTime().UnixNano() }

// lengthAndStamp returns the length of an open file in bytes, and its stamp (stampOf).
func lengthAndStamp(file *os.File) (length, stamp int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, 0, err
	}
	return info.Size(), stampOf(info), nil
}
