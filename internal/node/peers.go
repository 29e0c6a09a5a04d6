package node

import (
	"context"
	"errors"
	"fmt"
	"net"

	"mirror/internal/peer"
)

// joinPeers opens the port for transfers and takes part in the gossip. Peers that are not there yet are looked for in the
// background.
func (n *Node) joinPeers() (err error) {
	if !n.cfg.Peers.Enabled() {
		return nil
	}
	if n.transferListener, err = listen("peers.transfer", n.cfg.Peers.TransferAddress()); err != nil {
		return err
	}
	cfg := n.cfg.Peers
	cfg.Transfer = n.transferListener.Addr().String() // port 0 has become a port
	if n.group, err = peer.New(cfg, peer.DefaultSettings(), n.base, n.registry); err == nil {
		n.exchange, err = peer.NewExchange(n.group, int64(cfg.ChunkSize), n.base, n.registry)
	}
	if err == nil {
		n.group.SetRoom(peer.RoomOf(int64(n.cfg.Cache.MaxSize)))
		err = n.group.Start(context.Background())
	}
	if err != nil {
		return errors.Join(err, n.transferListener.Close())
	}
	return nil
}

// leavePeers tells the others that this node is gone.
func (n *Node) leavePeers(ctx context.Context) error {
	if n.group == nil {
		return nil
	}
	err := n.group.Close(ctx)
	n.exchange.Close()
	if closeErr := n.transferListener.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("close transfer listener: %w", closeErr))
	}
	return err
}

// startTransfers answers peers.
func (n *Node) startTransfers() error {
	if n.group == nil {
		return nil
	}
	n.peers = n.server.Peers(int64(n.cfg.Peers.Upload))
	go n.serve("peers.transfer", n.peers.Serve, n.transferListener)
	return nil
}

// drainTransfers hands over to other members: they are told not to ask this node any more, and get what is on its way.
func (n *Node) drainTransfers(ctx context.Context) error {
	if n.peers == nil {
		return nil
	}
	n.group.SetRefusal(peer.Draining, true)
	n.peers.Drain()
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Server.DrainTimeout)
	defer cancel()
	return n.peers.Shutdown(ctx)
}
