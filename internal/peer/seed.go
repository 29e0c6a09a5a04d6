package peer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// resolver looks up names; net.DefaultResolver is one. A name may have many addresses, in any order.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// seed is a place where members may be: an address, or a name that leads to one or many.
type seed struct {
	host string
	port uint16
}

// parseSeed reads host:port, where the port may be left out when there is a standard one.
func parseSeed(text string, standard uint16) (seed, error) {
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		// What is left is a host without a port, an address of IPv6 with or without brackets, or nonsense.
		host, number = text, strconv.Itoa(int(standard))
		if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
			host = text[1 : n-1]
		}
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if _, notAddress := netip.ParseAddr(host); err != nil || notAddress != nil && !isName(host) {
		return seed{}, fmt.Errorf("got %q, want host:port, or a DNS name", text)
	}
	return seed{host: host, port: uint16(port)}, nil
}

// addresses returns where the seed leads now: at least one address, or an error.
func (s seed) addresses(ctx context.Context, r resolver) ([]netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(s.host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), s.port)}, nil
	}
	found, err := r.LookupNetIP(ctx, "ip", s.host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", s.host, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("look up %s: it has no address", s.host)
	}
	addresses := make([]netip.AddrPort, len(found))
	for i, addr := range found {
		addresses[i] = netip.AddrPortFrom(addr.Unmap(), s.port)
	}
	return addresses, nil
}
