package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Set holds the clients of all configured upstreams. It is immutable after New.
type Set struct {
	all      []*Registry // in the order of the configuration
	byName   map[string]*Registry
	byHost   map[string]*Registry
	standard *Registry
	end      context.CancelFunc
}

// New builds a client for each upstream. It reads certificates but dials nothing: an upstream
// that is down is no reason not to start. version goes into User-Agent, instanceID into Via. The errors are those of
// ValidateAll, and of files that cannot be read.
func New(cfgs []Config, version string, instanceID string, log *slog.Logger, reg prometheus.Registerer) (*Set, error) {
	cfgs = slices.Clone(cfgs)
	for i := range cfgs {
		cfgs[i] = cfgs[i].Completed()
	}
	if err := ValidateAll(cfgs); err != nil {
		return nil, err
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	life, end := context.WithCancel(context.Background())
	s := &Set{byName: map[string]*Registry{}, byHost: map[string]*Registry{}, end: end}
	for _, c := range cfgs {
		r, err := newRegistry(life, c, version, instanceID, log.With("component", "upstream"), m)
		if err != nil {
			end()
			return nil, fmt.Errorf("upstream %s: %w", c.Registry, err)
		}
		s.add(r)
	}
	if err := reg.Register(newConditions(s)); err != nil {
		end()
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return s, nil
}

func (s *Set) add(r *Registry) {
	s.all = append(s.all, r)
	s.byName[r.name] = r
	for _, host := range r.config.Hosts {
		s.byHost[host] = r
	}
	if r.config.Default {
		s.standard = r
	}
}

// Close ends token exchanges and idle connections. Requests under way are left to their own contexts.
func (s *Set) Close() {
	s.end()
	for _, r := range s.all {
		r.close()
	}
}

// Reload makes every upstream that cfgs names read its credentials again when it needs them next, and its certificates
// at once, forget what the registry told of rate limits, and take over the limits of cfgs. Nothing else of cfgs counts. The error joins those of certificates that
// cannot be read, for which the old ones stay in use.
func (s *Set) Reload(cfgs []Config) error {
	var errs []error
	for _, c := range cfgs {
		if r, ok := s.byName[normalise(c.Registry)]; ok {
			errs = append(errs, r.reload(c.Completed().Limits))
		}
	}
	return errors.Join(errs...)
}

// Lookup returns the upstream for a registry name, in any case, with or without ":443", or under one of Docker Hub's
// other names. A name that is not configured has none; it is never dialled.
func (s *Set) Lookup(registry string) (*Registry, bool) {
	r, ok := s.byName[normalise(registry)]
	return r, ok
}

// Default returns the upstream of requests that name no registry.
func (s *Set) Default() (*Registry, bool) { return s.standard, s.standard != nil }

// Host returns the upstream that the mirror answers for under a virtual host name, as it stands in a Host header. A
// name that is configured without a port matches with any.
func (s *Set) Host(host string) (*Registry, bool) {
	if len(s.byHost) == 0 {
		return nil, false
	}
	host = strings.ToLower(host)
	if r, ok := s.byHost[host]; ok {
		return r, true
	}
	bare, _, err := net.SplitHostPort(host)
	if err != nil {
		return nil, false
	}
	r, ok := s.byHost[bare]
	return r, ok
}

// All returns the upstreams in the order of the configuration. The slice is the caller's.
func (s *Set) All() []*Registry { return slices.Clone(s.all) }

// normalise returns the one spelling of a registry's name that is used inside.
func normalise(registry string) string {
	registry = strings.TrimSuffix(strings.ToLower(registry), ":443")
	if slices.Contains(dockerHubAliases, registry) {
		return dockerHub
	}
	return registry
}
