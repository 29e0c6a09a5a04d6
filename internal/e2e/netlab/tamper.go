//go:build linux

package netlab

import (
	"context"
	"io"
	"net"
)

// tamperPort is where a node's transfers go by when they are tampered with.
const tamperPort = "7999"

// Tamper flips bits in whatever this node sends to others, as a node with bad memory does: one of every so many bytes. What is
// short enough stays right. It lasts until the lab is closed.
func (n *Node) Tamper(every int) error {
	var ln net.Listener
	err := n.namespace.inside(func() (err error) {
		ln, err = net.Listen("tcp", ":"+tamperPort)
		return err
	})
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go n.relay(conn, every)
		}
	}()
	return n.namespace.run("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "7947", "-j", "REDIRECT", "--to-ports", tamperPort)
}

// relay connects a peer with the node itself.
func (n *Node) relay(peer net.Conn, every int) {
	defer peer.Close()
	var node net.Conn
	err := n.namespace.inside(func() (err error) {
		node, err = new(net.Dialer).DialContext(context.Background(), "tcp", n.settings.Address+":7947")
		return err
	})
	if err != nil {
		return
	}
	defer node.Close()
	go func() {
		_, _ = io.Copy(node, peer) // it ends with the connection
		_ = node.Close()
	}()
	_, _ = io.Copy(peer, &flipping{node, every, 0})
}

// flipping changes one bit of every so many bytes.
type flipping struct {
	io.Reader
	every, passed int
}

// Read reads on.
func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	for at := f.every - f.passed%f.every - 1; at < n; at += f.every {
		p[at] ^= 1
	}
	f.passed += n
	return n, err
}
