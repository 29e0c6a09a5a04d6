package server

import (
	"net"
	"testing"
)

func TestPaces(t *testing.T) {
	for name, want := range map[string]bool{"bbr": true, "bbr3": true, "cubic": false, "reno": false, "dctcp": false, "": false} {
		if paces(name) != want {
			t.Errorf("%q: got %v", name, !want)
		}
	}
}

func TestSameMachine(t *testing.T) {
	f := func(here, there string, want bool) {
		t.Helper()
		a, err := net.ResolveTCPAddr("tcp", here)
		b, err2 := net.ResolveTCPAddr("tcp", there)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if got := sameMachine(a, b); got != want {
			t.Errorf("%s from %s: got %v", here, there, got)
		}
	}
	f("127.0.0.1:5000", "127.0.0.1:40000", true)
	f("127.0.0.1:5000", "127.0.0.2:40000", true)
	f("[::1]:5000", "[::1]:40000", true)
	f("[::ffff:127.0.0.1]:5000", "127.0.0.1:40000", true)
	f("192.0.2.1:5000", "192.0.2.1:40000", true)
	f("[2001:db8::1]:5000", "[2001:db8::1]:40000", true)
	f("192.0.2.1:5000", "192.0.2.2:40000", false)
	f("[2001:db8::1]:5000", "[2001:db8::2]:40000", false)
	if sameMachine(&net.UnixAddr{}, &net.UnixAddr{}) {
		t.Error("no addresses: got true")
	}
}

// congestionIs checks the congestion control of a listener or a connection.
func congestionIs(t *testing.T, what string, socket any, want string) {
	t.Helper()
	if got, err := congestionOf(socket); err != nil || got != want {
		t.Errorf("%s: got %q, %v, want %q", what, got, err, want)
	}
}

// accepted returns a connection to ln.
func accepted(t *testing.T, ln net.Listener) *net.TCPConn {
	t.Helper()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return server.(*net.TCPConn)
}

func TestPaceOfConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	machines, err := congestionOf(ln)
	if err != nil {
		t.Fatal(err)
	}
	if !paces(machines) {
		if usual := unpace(ln); usual != "" {
			t.Errorf("%s: unpace returned %q", machines, usual)
		}
		congestionIs(t, "listener where nothing paces", ln, machines)
	}
	if usual := unpace(ln); paces(machines) && usual != machines {
		t.Errorf("%s: unpace returned %q", machines, usual)
	}
	// From here on as on a machine that paces, whether this one does or not.
	if err := setCongestion(ln, unpaced); err != nil {
		t.Fatal(err)
	}
	own := accepted(t, ln)
	if err := pace(own, machines); err != nil {
		t.Error(err)
	}
	congestionIs(t, "from this machine", own, unpaced)
	if err := giveBack(own, machines); err != nil {
		t.Error(err)
	}
	congestionIs(t, "from another machine", own, machines)
	if machines != unpaced { // so this one has another than the listener
		if err := giveBack(own, unpaced); err != nil {
			t.Error(err)
		}
		congestionIs(t, "with one from its route", own, machines)
	}
	_ = own.Close()
	if giveBack(own, machines) == nil {
		t.Error("a closed connection: no error")
	}
	if usual := unpace(struct{ net.Listener }{ln}); usual != "" {
		t.Errorf("a listener without a descriptor: got %q", usual)
	}
}
