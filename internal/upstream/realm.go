package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// checkRealm decides whether the token service that a challenge names may be asked, and shown credentials: it speaks
// https unless the endpoint itself does not, and is on the endpoint's host, in its registrable domain, or listed in the
// configuration. Otherwise whoever can make a registry send a header could collect the credentials.
func (r *Registry) checkRealm(endpoint *url.URL, realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	if err != nil || u.Opaque != "" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("%w: the challenge names %q as token service, which is no plain URL", ErrDenied, redacted(realm))
	}
	if u.Scheme != "https" && (u.Scheme != "http" || endpoint.Scheme != "http") {
		return nil, fmt.Errorf("%w: the challenge names %s as token service, and credentials do not travel without TLS", ErrDenied, redactedURL(u))
	}
	if !strings.EqualFold(u.Hostname(), endpoint.Hostname()) && !sameDomain(u.Hostname(), endpoint.Hostname()) && !r.listsTokenHost(u) {
		return nil, fmt.Errorf("%w: the challenge names %s as token service, which is outside the domain of the endpoint %s: if it may see the credentials, add %q to token_hosts of the upstream",
			ErrDenied, redactedURL(u), redactedURL(endpoint), strings.ToLower(u.Host))
	}
	return u, nil
}

// listsTokenHost reports whether the operator has named the host of a token service. A name without a port means any.
func (r *Registry) listsTokenHost(u *url.URL) bool {
	host, name := strings.ToLower(u.Host), strings.ToLower(u.Hostname())
	return slices.ContainsFunc(r.config.TokenHosts, func(listed string) bool { return listed == host || listed == name })
}

// sameDomain reports whether two host names belong to the same owner, as far as names tell: docker.io for
// auth.docker.io and registry-1.docker.io. Addresses and names without a dot have no domain.
func sameDomain(a, b string) bool {
	domainA, okA := registrableDomain(a)
	domainB, okB := registrableDomain(b)
	return okA && okB && domainA == domainB
}

func registrableDomain(host string) (string, bool) {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return "", false
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(strings.TrimSuffix(host, ".")))
	return domain, err == nil
}

// sameHost reports whether two URLs lead to the same server: scheme, host and port. Only then may credentials for the
// one be sent to the other; a subdomain is another host.
func sameHost(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// literalPrivate reports whether the URL names a private address in so many words.
func literalPrivate(u *url.URL) bool {
	host, _, err := net.SplitHostPort(u.Host)
	if err != nil {
		host = u.Hostname()
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && isPrivate(address)
}
