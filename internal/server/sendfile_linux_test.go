package server_test

import (
	"testing"

	"mirror/internal/peer"
	"mirror/internal/server"
)

// TestFilesAreNotCopied, whoever they are for and however complete.
func TestFilesAreNotCopied(t *testing.T) {
	p := newPeered(t, options{}, 0)
	content := pattern(3 << 20)
	layer, cold := p.hub.AddBlob("library/app", content), p.hub.AddBlob("library/app", content[1:])
	p.get(blobPath("library/app", layer)).want(t, 200)
	f := func(name string, c *client, raw string, status int, want []byte, connOf func() server.Conn) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c.send(raw)
			c.read("GET").want(t, status).wantBody(t, want)
			if !connOf().Files {
				t.Error("it went through memory")
			}
		})
	}
	client := func(name, raw string, status int, want []byte) {
		t.Helper()
		c := p.dial()
		f(name, c, raw, status, want, func() server.Conn { return server.ConnOf(p.server, c.LocalAddr()) })
	}
	whole := request("GET", blobPath("library/app", layer))
	p.warm(whole)
	client("hit", whole, 200, content)
	client("range", request("GET", blobPath("library/app", layer), "Range: bytes=5-1048999"), 206, content[5:1049000])
	client("miss", request("GET", blobPath("library/app", cold)), 200, content[1:])
	r := chunkRequest("library/app", layer, 0, peerChunk, "holder")
	authorization, _ := peer.NewSigner("a", p.secret).Sign("node", r)
	c := p.dialTo(p.port)
	f("peer", c, p.text(r, authorization), peer.StatusContent, content[:peerChunk], func() server.Conn { return server.ConnOfPeer(p.peers, c.LocalAddr()) })
}
