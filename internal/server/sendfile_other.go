//go:build !linux

package server

import "net"

// files is a connection that sends files as the Go runtime does.
type files struct{ *net.TCPConn }
