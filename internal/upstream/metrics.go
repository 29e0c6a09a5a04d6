package upstream

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// kind says what a request is for, in the words of the metrics.
type kind string

const (
	kindManifest  kind = "manifest"
	kindBlob      kind = "blob"
	kindTags      kind = "tags"
	kindReferrers kind = "referrers"
	kindPing      kind = "ping"
	kindToken     kind = "token"
	kindRedirect  kind = "redirect" // a hop to a redirect target
	kindSignIn    kind = "signin"   // to a cloud's service that gives out credentials
)

// metrics counts what is sent to all upstreams and what comes back.
type metrics struct {
	requests  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	remaining *prometheus.GaugeVec
	retries   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirror_upstream_requests_total",
			Help: "Requests sent to upstreams, by what they were for. Code is the status, or error when there was no answer. Kind redirect counts hops to the places that an upstream pointed to, kind signin requests to the clouds that give out credentials.",
		}, []string{"upstream", "kind", "method", "code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirror_upstream_bytes_total",
			Help: "Body bytes received from upstreams and the places they pointed to.",
		}, []string{"upstream"}),
		remaining: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mirror_upstream_ratelimit_remaining",
			Help: "The last number of requests that the upstream said are left in its window. Absent when it never said.",
		}, []string{"upstream"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirror_upstream_retries_total",
			Help: "Requests that failed and were worth repeating at once, by what was done: sent, or withheld because a tenth of the requests were repeated already.",
		}, []string{"upstream", "result"}),
	}
	for _, collector := range []prometheus.Collector{m.requests, m.bytes, m.remaining, m.retries} {
		if err := reg.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// registryMetrics is metrics for one upstream.
type registryMetrics struct {
	all      *metrics
	upstream string
	bytes    prometheus.Counter
}

func (m *metrics) of(upstream string) *registryMetrics {
	return &registryMetrics{all: m, upstream: upstream, bytes: m.bytes.WithLabelValues(upstream)}
}

// answered counts one request. A nil answer is an error.
func (m *registryMetrics) answered(k kind, method string, resp *http.Response) {
	code := "error"
	// A status outside the registered classes would let a server make up labels.
	if resp != nil && resp.StatusCode >= 100 && resp.StatusCode < 600 {
		code = strconv.Itoa(resp.StatusCode)
	}
	m.all.requests.WithLabelValues(m.upstream, string(k), method, code).Inc()
}

// retried counts a request that is worth repeating.
func (m *registryMetrics) retried(granted bool) {
	result := "withheld"
	if granted {
		result = "sent"
	}
	m.all.retries.WithLabelValues(m.upstream, result).Inc()
}

// left shows how many requests the upstream says are left.
func (m *registryMetrics) left(n int64) { m.all.remaining.WithLabelValues(m.upstream).Set(float64(n)) }

// conditions are the gauges of a Set. They are worked out when somebody scrapes, so that they are of that moment.
type conditions struct {
	set *Set

	available, endpointUp         *prometheus.Desc
	requests, waiting, transfers  *prometheus.Desc
	left, reset                   *prometheus.Desc
	credentialOK, credentialEnds  *prometheus.Desc
	tokens, oldestToken, tokenEnd *prometheus.Desc
}

func newConditions(s *Set) *conditions {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("mirror_upstream_"+name, help, append([]string{"upstream"}, labels...), nil)
	}
	return &conditions{
		set:            s,
		available:      desc("available", "1 while a request would be sent to the upstream, 0 while all its endpoints are left alone or it is offline."),
		endpointUp:     desc("endpoint_up", "1 while requests go to the endpoint, 0 while its circuit breaker is open or one request is trying it.", "endpoint"),
		requests:       desc("requests_in_flight", "Requests that are under way, transfers of blobs included. Each has a connection."),
		waiting:        desc("requests_waiting", "Requests that wait because limits.connections allows no more."),
		transfers:      desc("transfers_in_flight", "Connections on which blobs are coming. A fill has one or several."),
		left:           desc("ratelimit_left_ratio", "The part of the rate limit that is left to the account that has most, estimated between two answers. 1 when the upstream told of no limit, 0 while it has told the mirror to wait."),
		reset:          desc("ratelimit_reset_timestamp_seconds", "When all of an account's rate limit is there again, or manifests may be asked for again, in seconds since 1970. Absent when the upstream did not tell.", "account"),
		credentialOK:   desc("credential_ok", "1 while the credential of an account can be had and is not refused, as far as is known. Absent for anonymous upstreams.", "account"),
		credentialEnds: desc("credential_expiry_timestamp_seconds", "Until when the credential that is held is used, in seconds since 1970. While it is in use it is fetched anew before that. Absent when none is held.", "account"),
		tokens:         desc("tokens", "Tokens that are good, of token services; each repository in use has its own.", "account"),
		oldestToken:    desc("token_oldest_timestamp_seconds", "When the oldest of these tokens was fetched, in seconds since 1970. Absent when there is none.", "account"),
		tokenEnd:       desc("token_expiry_timestamp_seconds", "When the first of these tokens ends, in seconds since 1970. Absent when there is none.", "account"),
	}
}

// Describe tells of every gauge, whether or not there is anything to show.
func (c *conditions) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.available, c.endpointUp, c.requests, c.waiting, c.transfers, c.left, c.reset,
		c.credentialOK, c.credentialEnds, c.tokens, c.oldestToken, c.tokenEnd,
	} {
		out <- d
	}
}

// Collect shows how every upstream is doing.
func (c *conditions) Collect(out chan<- prometheus.Metric) {
	for _, r := range c.set.all {
		shown := gauges{out, r.name}
		now := r.Condition()
		shown.number(c.available, oneIf(now.Available))
		shown.number(c.requests, float64(now.Requests.InUse))
		shown.number(c.waiting, float64(now.Requests.Waiting+now.Transfers.Waiting))
		shown.number(c.transfers, float64(now.Transfers.InUse))
		shown.number(c.left, now.Budget.Left)
		up := make(map[string]bool) // nothing keeps a configuration from naming an endpoint twice
		for _, e := range now.Endpoints {
			up[e.URL] = up[e.URL] || e.State == breakerClosed.String()
		}
		for url, is := range up {
			shown.number(c.endpointUp, oneIf(is), url)
		}
		for _, a := range now.Accounts {
			c.collectAccount(shown, a)
		}
	}
}

func (c *conditions) collectAccount(shown gauges, a AccountCondition) {
	shown.moment(c.reset, later(a.RateLimit.Reset, a.RateLimit.ManifestsFrom), a.Key)
	if !a.Anonymous {
		shown.number(c.credentialOK, oneIf(a.Credential.Fault == "" && a.AsideUntil.IsZero()), a.Key)
	}
	shown.moment(c.credentialEnds, a.Credential.Expires, a.Key)
	shown.number(c.tokens, float64(a.Tokens.Held), a.Key)
	shown.moment(c.oldestToken, a.Tokens.Oldest, a.Key)
	shown.moment(c.tokenEnd, a.Tokens.Expires, a.Key)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// gauges shows numbers of one upstream.
type gauges struct {
	out      chan<- prometheus.Metric
	upstream string
}

func (g gauges) number(d *prometheus.Desc, value float64, labels ...string) {
	g.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{g.upstream}, labels...)...)
}

// moment shows a time, unless there is none.
func (g gauges) moment(d *prometheus.Desc, at time.Time, labels ...string) {
	if !at.IsZero() {
		g.number(d, float64(at.Unix()), labels...)
	}
}

// unscraped returns a registerer for a client that lives for a moment, and that nobody watches.
func unscraped() prometheus.Registerer { return prometheus.NewRegistry() }
