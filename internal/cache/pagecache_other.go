//go:build !linux

package cache

import "os"

// forgetPages does nothing where the kernel takes no such advice.
func forgetPages(*os.File) {}
