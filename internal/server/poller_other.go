//go:build !linux

package server

import "errors"

// poller is for Linux. Elsewhere each connection has a goroutine that waits.
type poller struct{}

func newPollers(*attendant) []*poller { return nil }

func (*poller) add(*plainConn) error { return errors.ErrUnsupported }

func (*poller) forget(*conn) {}

func (*poller) close() {}
