package server

import (
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// unpaced is the congestion control of connections from this machine where the usual one would pace them. Every kernel has it, and
// allows it to everybody.
const unpaced = "reno"

// unpace makes the connections that ln accepts from now on free of pacing, and returns the congestion control that those from other
// machines are to get back (pace). It returns nothing, and changes nothing, where the machine's usual one does not pace.
//
// BBR sends by a timer of each connection, at the rate that it has found a path to have. Between two programs of one machine there
// is no path, and the timers are most of what it costs to send to the container runtime next door (decision 19). They stay with
// a connection that has begun with them, so it is the listener that is without.
func unpace(ln net.Listener) (usual string) {
	usual, err := congestionOf(ln)
	if err != nil || !paces(usual) {
		return ""
	}
	// Going back is tried here, so that no connection is left with what is not its own.
	for _, name := range []string{unpaced, usual, unpaced} {
		if setCongestion(ln, name) != nil {
			return ""
		}
	}
	return usual
}

// paces reports whether a congestion control paces, which BBR in all its versions does.
func paces(name string) bool { return strings.HasPrefix(name, "bbr") }

// pace gives a new connection its usual congestion control back when it is from another machine. One that has another than the
// listener has it from its route, and keeps it.
func pace(tcp *net.TCPConn, usual string) error {
	if usual == "" || sameMachine(tcp.LocalAddr(), tcp.RemoteAddr()) {
		return nil
	}
	return giveBack(tcp, usual)
}

func giveBack(tcp *net.TCPConn, usual string) error {
	if own, err := congestionOf(tcp); err != nil || own != unpaced {
		return err
	}
	return setCongestion(tcp, usual)
}

// sameMachine reports whether both ends of a connection are on this machine: over its loopback, or by an address of its own.
func sameMachine(here, there net.Addr) bool {
	a, isTCP := here.(*net.TCPAddr)
	b, isTCP2 := there.(*net.TCPAddr)
	return isTCP && isTCP2 && (b.IP.IsLoopback() || b.IP.Equal(a.IP))
}

func congestionOf(socket any) (name string, err error) {
	err = control(socket, func(fd int) (err error) {
		name, err = unix.GetsockoptString(fd, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION)
		return err
	})
	return name, err
}

func setCongestion(socket any, name string) error {
	return control(socket, func(fd int) error {
		return syscall.SetsockoptString(fd, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, name)
	})
}
