package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// addressProblems finds addresses that exclude each other: two listeners in one place, and an upstream that is this
// mirror itself.
func (c Config) addressProblems() []Problem {
	found := c.listenerProblems()
	for i, up := range c.Upstreams {
		for j, endpoint := range up.Endpoints {
			if c.isOwn(endpoint) {
				found = append(found, problem(fmt.Sprintf("upstreams[%d].endpoints[%d]", i, j),
					"got %q, which is this mirror's own server.listen: name the registry, or the mirror would ask itself", endpoint))
			}
		}
	}
	return found
}

// listenerProblems finds two listeners in one place.
func (c Config) listenerProblems() []Problem {
	var found []Problem
	listeners := []struct{ key, address string }{
		{"server.listen", c.Server.Listen}, {"admin.listen", c.Admin.Listen},
		{"peers.listen", c.Peers.Listen}, {"peers.transfer", c.Peers.TransferAddress()},
	}
	for i, later := range listeners {
		for _, earlier := range listeners[:i] {
			// That the two addresses of the peers exclude each other is for peers to say.
			if overlap(earlier.address, later.address) && earlier.key != "peers.listen" {
				found = append(found, problem(later.key, "got %q, which %s (%s) takes already: choose another port", later.address, earlier.key, earlier.address))
			}
		}
	}
	return found
}

// isOwn tells whether an endpoint is plainly this mirror's registry API. It resolves no names: a loop by way of a name
// is broken when requests arrive, by their Via header.
func (c Config) isOwn(endpoint string) bool {
	target, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	port := target.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[target.Scheme]
	}
	if overlap(c.Server.Listen, net.JoinHostPort(target.Hostname(), port)) {
		return true
	}
	_, ownPort, err := net.SplitHostPort(c.Server.Listen)
	return err == nil && port == ownPort && c.answersFor(target.Hostname())
}

// answersFor tells whether host is one of the virtual hosts of this mirror.
func (c Config) answersFor(host string) bool {
	for _, up := range c.Upstreams {
		for _, own := range up.Hosts {
			if name, _, _ := strings.Cut(own, ":"); strings.EqualFold(name, host) {
				return true
			}
		}
	}
	return false
}

// overlap tells whether a connection to one of two host:port addresses could end at the other. Port 0 is no port yet.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return strings.EqualFold(hostA, hostB) || covers(hostA, hostB) || covers(hostB, hostA)
}

// covers tells whether listening on host means listening on other too. An unspecified host is every address of this
// machine, of which only the loopback ones can be told without asking the machine. "localhost" is any loopback address.
func covers(host, other string) bool {
	return isUnspecified(host) && (isUnspecified(other) || isLoopback(other)) ||
		strings.EqualFold(host, "localhost") && isLoopback(other)
}

func isUnspecified(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}
