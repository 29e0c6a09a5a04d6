package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// capabilityLife is how long it is remembered that an upstream lacks something. Registries are upgraded now and then.
const capabilityLife = 6 * time.Hour

// Registry is the client of one upstream registry. It is safe for use by many goroutines.
type Registry struct {
	name      string
	config    Config
	rules     rules
	tagRules  []tagRule
	agent     string // User-Agent
	via       string // Via, by which a loop of mirrors is noticed
	endpoints []*endpoint
	wire      atomic.Pointer[wire]
	limits    atomic.Pointer[limits]
	retries   *retries
	times     timings
	metrics   *registryMetrics

	accounts []*account // never empty
	tokens   tokens
	demands  demands

	private     atomic.Bool // an endpoint is at a private address
	remaining   atomic.Int64
	noHead      absence
	noReferrers absence

	log *slog.Logger
	// life ends with the Set. What is not part of one request, token exchanges, ends with it.
	life context.Context
}

// endpoint is one base URL of a registry.
type endpoint struct {
	url        *url.URL
	breaker    *breaker
	allowances []allowance // one for each account of the registry
	pace       pace
	probing    probing
}

// absence remembers for some hours that an upstream lacks an ability.
type absence struct{ until atomic.Int64 }

func (a *absence) noted() bool { return lasts(a.until.Load(), time.Now(), capabilityLife) }
func (a *absence) note()       { a.until.Store(time.Now().Add(capabilityLife).UnixNano()) }

// newRegistry builds the client for one upstream. The configuration has defaults filled in and is valid.
func newRegistry(life context.Context, c Config, version, instanceID string, log *slog.Logger, m *metrics) (*Registry, error) {
	certificates, err := readTrust(c)
	if err != nil {
		return nil, err
	}
	log = log.With("upstream", c.Registry)
	r := &Registry{
		name: c.Registry, config: c, agent: "mirror/" + version, via: "1.1 mirror-" + instanceID,
		times: standardTimings(), retries: newRetries(), metrics: m.of(c.Registry), life: life, log: log,
	}
	if r.rules, err = compileRules(c.Allow, c.Deny); err != nil {
		return nil, err
	}
	if r.tagRules, err = compileTagRules(c.Tags); err != nil {
		return nil, err
	}
	r.remaining.Store(-1)
	r.limits.Store(newLimits(c.Limits))
	for _, base := range c.Endpoints {
		if err := r.addEndpoint(base, log); err != nil {
			return nil, err
		}
	}
	r.wire.Store(r.newWire(certificates))
	r.accounts = r.newAccounts(log)
	return r, nil
}

func (r *Registry) addEndpoint(base string, log *slog.Logger) error {
	u, err := url.Parse(base)
	if err != nil {
		return fmt.Errorf("parse endpoint: %w", err)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	e := &endpoint{url: u, allowances: make([]allowance, len(r.config.Identities()))}
	e.breaker = newBreaker(func(open bool, pause time.Duration, cause error) {
		if open {
			log.Warn("endpoint "+redactedURL(u)+" is left alone for a while", "duration", pause, "error", cause)
			return
		}
		log.Info("endpoint " + redactedURL(u) + " answers again")
	})
	r.endpoints = append(r.endpoints, e)
	return nil
}

// Name returns the registry's name as people write it in image names.
func (r *Registry) Name() string { return r.name }

// Anonymous reports whether no credentials are configured, so that what is pulled is open to everybody.
func (r *Registry) Anonymous() bool { return r.config.anonymous() }

// Offline reports whether the configuration keeps the mirror from asking this registry.
func (r *Registry) Offline() bool { return r.config.Offline }

// Prefetch reports whether the configuration lets the mirror fetch what will be asked for next.
func (r *Registry) Prefetch() bool { return r.config.Prefetch }

// Allows reports whether allow and deny of the configuration let the repository be pulled.
func (r *Registry) Allows(name string) bool { return r.rules.allows(name) }

// BlobConnections returns the most connections that one blob may take.
func (r *Registry) BlobConnections() int { return r.limits.Load().perBlob }

// Available reports whether a request would be sent: some endpoint works as far as is known, or it is time to try one
// again. It costs no I/O, and is never so while the registry is offline. While it is false, what is stale had better be served at once.
func (r *Registry) Available() bool {
	if r.config.Offline {
		return false
	}
	for _, e := range r.endpoints {
		if e.breaker.ready() {
			return true
		}
	}
	return false
}

// permit returns ErrNotAllowed for a repository that the configuration excludes.
func (r *Registry) permit(name string) error {
	if !r.rules.allows(name) {
		return ErrNotAllowed
	}
	return nil
}

// named puts the upstream before an error that leaves the package.
func (r *Registry) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("upstream %s: %w", r.name, err)
}

// close ends what no request holds any more.
func (r *Registry) close() { r.wire.Load().close() }

// reload forgets the credential, everything that was obtained with it and the rate limits that were told to it, reads
// certificates again, and takes over new limits. What is under way ends within the old ones. The error is that of a certificate that stays as it was.
func (r *Registry) reload(l Limits) error {
	r.limits.Store(newLimits(l))
	for _, a := range r.accounts {
		a.credentials.forget()
		a.aside.Store(0)
	}
	r.tokens.clear()
	for _, e := range r.endpoints {
		for i := range e.allowances {
			e.allowances[i].forget()
		}
	}
	return r.reloadTrust()
}

// statusOf returns the status that an error reports, or zero.
func statusOf(err error) int {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status
	}
	return 0
}
