package upstream

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"mirror/internal/upstream/signin"
)

const (
	// cloudLife is how long a credential is used whose life the cloud did not tell.
	cloudLife = 15 * time.Minute
	// cloudPatience is how old a cloud's credential is at least before a refusal makes us ask for another.
	cloudPatience = 5 * time.Second
)

// newSource returns where the credential of an account comes from, or nil for an anonymous registry.
func (r *Registry) newSource(c Credentials) *source {
	platform := signin.Platform{Cloud: r.sendCloud, Registry: r.sendSignIn, Getenv: os.Getenv}
	switch {
	case c.ECR != nil:
		s := cloudSource(c.ECR.Source(r.config.cloudHost(), platform))
		s.expiryIs403 = true
		return s
	case c.Google != nil:
		return cloudSource(c.Google.Source(platform))
	case c.Azure != nil:
		return cloudSource(c.Azure.Source(redactedURL(r.endpoints[0].url), r.config.cloudHost(), platform))
	case c.forms() > 0:
		return localCredentials{config: c, registry: r.name}.source()
	}
	return nil
}

func cloudSource(fetch signin.Source) *source {
	return &source{patience: cloudPatience, fetch: func(ctx context.Context) (credential, time.Duration, error) {
		grant, err := fetch(ctx)
		if err != nil {
			return credential{}, 0, err
		}
		found := credential{username: grant.Credential.Username, password: grant.Credential.Password, identity: grant.Credential.Identity}
		return found, orDefault(grant.Life, cloudLife), nil
	}}
}

// cloudHost is the host by which a cloud knows the registry: that of the first endpoint when it is a cloud's own name,
// else that of the registry.
func (c Config) cloudHost() string {
	if len(c.Endpoints) > 0 {
		if u, err := url.Parse(c.Endpoints[0]); err == nil {
			if form, _ := signin.Form(u.Hostname()); form != "" {
				return u.Hostname()
			}
		}
	}
	host, _, err := net.SplitHostPort(c.Registry)
	if err != nil {
		return c.Registry
	}
	return host
}

// sendCloud sends a request to a service that gives out credentials. The limits of the registry are not its.
func (r *Registry) sendCloud(req *http.Request) (*http.Response, error) {
	r.dress(req)
	resp, err := r.wire.Load().cloud.RoundTrip(req)
	r.metrics.answered(kindSignIn, req.Method, resp)
	return resp, err
}

// sendSignIn sends a request to the registry's own service that gives out credentials.
func (r *Registry) sendSignIn(req *http.Request) (*http.Response, error) {
	r.dress(req)
	return r.send(req.Context(), r.wire.Load().home, kindToken, req)
}

// cloudProxy keeps metadata services, which are addresses of this machine, from being looked for behind a proxy.
func cloudProxy(home *http.Transport, req *http.Request) (*url.URL, error) {
	host := req.URL.Hostname()
	if address, err := netip.ParseAddr(host); err == nil && isPrivate(address) || host == "metadata.google.internal" {
		return nil, nil
	}
	return home.Proxy(req)
}
