package peer

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossipTransport is memberlist's, with connections that end when the node stops. Without it a stop would wait for a seed
// that does not answer.
type gossipTransport struct {
	*memberlist.NetTransport
	ctx context.Context
}

var _ memberlist.NodeAwareTransport = (*gossipTransport)(nil)

// DialAddressTimeout opens a stream to a member.
func (t *gossipTransport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(t.ctx, func() { conn.Close() })
	return &stream{Conn: conn, release: release}, nil
}

// stream is a connection that ends with the context of its transport.
type stream struct {
	net.Conn
	release func() bool
}

// Close closes the connection.
func (s *stream) Close() error {
	s.release()
	return s.Conn.Close()
}
