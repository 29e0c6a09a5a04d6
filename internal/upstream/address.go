package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// errPrivateAddress: an upstream pointed at an address that only this machine or its network can reach.
var errPrivateAddress = errors.New("address is not public")

// sharedSpace is the address space of carrier-grade translation (RFC 6598), as private as those of RFC 1918.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// isPrivate reports whether a stranger must not send us to this address.
func isPrivate(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() ||
		sharedSpace.Contains(a) || a.Is4() && a.As4()[0] == 0
}

// controlFunc is called by the dialer with each address it is about to connect to, after name resolution: the only
// moment at which a name cannot point somewhere else again.
type controlFunc func(ctx context.Context, network, address string, _ syscall.RawConn) error

// noting remembers whether the endpoints of this registry are at private addresses themselves. The address of a proxy
// says nothing about that.
func (r *Registry) noting(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if ctx.Value(throughProxy{}) != nil {
		return nil
	}
	if target, err := netip.ParseAddrPort(address); err == nil && isPrivate(target.Addr()) {
		r.private.Store(true)
	}
	return nil
}

// guarding refuses private addresses, unless the operator has configured an endpoint there: then the network around it
// is where this registry lives, and its storage and token service may as well. A host that is listed may be anywhere.
func (r *Registry) guarding(ctx context.Context, _, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read address %q: %w", address, err)
	}
	if isPrivate(target.Addr()) && !r.private.Load() && ctx.Value(named{}) == nil {
		return fmt.Errorf("%w: %v", errPrivateAddress, target.Addr())
	}
	return nil
}
