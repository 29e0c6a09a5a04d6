//go:build !linux

package node

import "os"

// wantPages does nothing: only Linux is told.
func wantPages(*os.File, int64) {}
