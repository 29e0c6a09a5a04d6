//go:build !linux

package cache

import "os"

// stampOf returns when the bytes of a file were last changed, in nanoseconds since 1970.
func stampOf(info os.FileInfo) int64 { return info.ModTime().UnixNano() }
