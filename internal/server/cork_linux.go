package server

import "syscall"

// cork keeps the kernel from sending anything but full segments until it is taken off. With headers and content written one after the
// other, and content in pieces of 64 KiB, segments are sent half full otherwise: with BBR, sending ranges of 1 MiB cost a third
// more. The kernel sends what is left after 200 ms in any case.
func (c *conn) cork(on bool) {
	value := 0
	if on {
		value = 1
	}
	// On a connection that is closed it fails; whoever writes will see that.
	_ = c.raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, value) })
}
