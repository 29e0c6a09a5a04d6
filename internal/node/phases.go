package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"mirror/internal/admin"
	"mirror/internal/cache"
	"mirror/internal/catalog"
	"mirror/internal/mirror"
	"mirror/internal/server"
	"mirror/internal/upstream"
)

func (n *Node) startAdmin() (err error) {
	if n.adminListener, err = listen("admin.listen", n.cfg.Admin.Listen); err != nil {
		return err
	}
	n.admin = admin.New(n.cfg.Admin, admin.Parts{
		Gatherer: n.registry, Ready: n.notReady, Mirror: n.managed.Load, Version: n.version, Started: time.Now(),
	}, n.base)
	go n.serve("admin.listen", n.admin.Serve, n.adminListener)
	return nil
}

func (n *Node) stopAdmin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, adminGrace)
	defer cancel()
	return n.admin.Shutdown(ctx)
}

func (n *Node) openCatalog() (err error) {
	n.catalog, err = catalog.Open(catalog.Config{Dir: n.cfg.Cache.Dir}, n.base, n.registry)
	return adviseOnDirectory(n.cfg.Cache.Dir, err)
}

func (n *Node) openCache() (err error) {
	n.cache, err = cache.Open(n.cfg.Cache, n.base, n.registry)
	return adviseOnDirectory(n.cfg.Cache.Dir, err)
}

func (n *Node) openUpstreams() (err error) {
	n.upstreams, err = upstream.New(n.cfg.Upstreams, n.version, n.id, n.base, n.registry)
	return err
}

func (n *Node) startMirror() error {
	parts := mirror.Parts{
		Cache: n.cache, Catalog: n.catalog, Upstreams: n.upstreams, ID: n.id,
		Peers: n.exchange, ShareTags: n.cfg.Peers.ShareTags,
	}
	n.mirror = mirror.New(parts, n.base, n.registry)
	return nil
}

func (n *Node) buildServer() (err error) {
	n.server, err = server.New(n.cfg.Server, n.mirror, n.version, n.base, n.registry)
	return err
}

func (n *Node) startServer() (err error) {
	if n.registryListener, err = listen("server.listen", n.cfg.Server.Listen); err != nil {
		return err
	}
	go n.serve("server.listen", n.server.Serve, n.registryListener)
	return nil
}

// drain stops accepting and gives transfers their time. That some of them did not end within it is no error of the
// stop: their clients resume elsewhere.
func (n *Node) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Server.DrainTimeout)
	defer cancel()
	err := n.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		n.log.Warn("server.drain_timeout was too short for some transfers", "error", err)
		return nil
	}
	return err
}

// serve runs a listener until it is shut down.
func (n *Node) serve(key string, run func(net.Listener) error, ln net.Listener) {
	if err := run(ln); err != nil {
		n.failed <- fmt.Errorf("serve %s (%s): %w", ln.Addr(), key, err)
	}
}

// listen opens a TCP port. The error names the key to change, because the address alone does not say where it came from.
func listen(key, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: stop the program that has it, or change %s", err, key)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%w: this machine has no such address: change %s", err, key)
	case err != nil:
		return nil, fmt.Errorf("%w: change %s", err, key)
	}
	return ln, nil
}
