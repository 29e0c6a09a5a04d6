//go:build !linux

package server

import (
	"io"
	"os"
)

// sending is what sending files needs where they are sent without copying.
type sending struct{}

// sendSlice copies the next n bytes of file from off on, or as many as there are.
func (c *conn) sendSlice(file *os.File, off, n int64) (int64, error) {
	return io.Copy(c.TCPConn, io.NewSectionReader(file, off, n))
}
