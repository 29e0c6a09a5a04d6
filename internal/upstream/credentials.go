package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"mirror/internal/upstream/signin"
)

const (
	// credentialFault is how long a failure to get a credential is remembered, so that a crowd does not wait for one
	// broken helper after the other, and how long until a refresh that failed is tried again.
	credentialFault = 5 * time.Second
	// credentialTimeout bounds one attempt. It must leave time to a token exchange, and to the call behind that.
	credentialTimeout = 8 * time.Second
	// deniedPatience is how old a credential is at least before a 403 is taken for its end: an expired password of ECR
	// and a missing permission look the same.
	deniedPatience = time.Minute
)

// A credential is used for most of its life and fetched anew, while it is in use, before that is over.
const (
	credentialUse   = 0.95
	credentialAhead = 0.8
)

// credential is what the mirror shows to a registry. The zero value is none.
type credential struct {
	username string
	password string
	// identity is a refresh token, which only a token service takes (Docker calls it identity token).
	identity string
}

func (c credential) none() bool { return c == credential{} }

// basic returns the value of an Authorization header.
func (c credential) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.username+":"+c.password))
}

// source is where the credential of a registry comes from.
type source struct {
	// fetch gets the credential and says how long it is good.
	fetch func(context.Context) (credential, time.Duration, error)
	// patience is how old a credential is at least before a refusal makes us fetch another. Asking a cloud for each
	// refused request would turn one wrong permission into a flood.
	patience time.Duration
	// expiryIs403 tells that the registry answers 403 to a credential whose time is over.
	expiryIs403 bool
}

// credentials holds the credential of one account at one registry. It is fetched once however many wait for it, and not
// by the first of them: a request that is given up takes nothing along. While it is in use it is fetched again ahead of
// its end, and nobody waits for that.
type credentials struct {
	source *source // nil for anonymous
	life   context.Context
	log    *slog.Logger

	mu      sync.Mutex // guards everything below; held for moments
	known   credential
	fetched time.Time
	ahead   time.Time // from then on, who asks starts a refresh
	until   time.Time // the end of what is known, or of the fault
	fault   error     // why there is no credential
	flight  *credentialFlight
}

// credentialFlight is one attempt to get a credential. Its results may be read when done is closed.
type credentialFlight struct {
	done  chan struct{}
	found credential
	err   error
}

// newCredentials returns the credentials of an account. Attempts to get them end with life. A nil source is anonymous.
func newCredentials(life context.Context, s *source, log *slog.Logger) *credentials {
	return &credentials{source: s, life: life, log: log}
}

// configured reports whether there are credentials at all.
func (c *credentials) configured() bool { return c.source != nil }

// get returns the credential, or none for an anonymous registry. One that cannot be had is an ErrUnauthorized, or an
// ErrUnavailable when that is for the moment.
func (c *credentials) get(ctx context.Context) (credential, error) {
	if !c.configured() {
		return credential{}, nil
	}
	f, found, err := c.lookup(time.Now())
	if f == nil {
		return found, err
	}
	select {
	case <-f.done:
		return f.found, f.err
	case <-ctx.Done():
		return credential{}, ctx.Err()
	}
}

// lookup returns what is known, or the attempt to wait for.
func (c *credentials) lookup(now time.Time) (wait *credentialFlight, found credential, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now.Before(c.until) {
		c.known, c.fault = credential{}, nil
	}
	if c.fault != nil {
		return nil, credential{}, c.fault
	}
	useful := !c.known.none()
	if c.flight == nil && (!useful || !now.Before(c.ahead)) {
		c.flight = &credentialFlight{done: make(chan struct{})}
		go c.run(c.flight)
	}
	if useful {
		return nil, c.known, nil
	}
	return c.flight, credential{}, nil
}

// run is one attempt.
func (c *credentials) run(f *credentialFlight) {
	defer close(f.done)
	ctx, cancel := context.WithTimeoutCause(c.life, credentialTimeout, errSlow)
	defer cancel()
	found, life, err := c.source.fetch(ctx)
	if err == nil && found.none() {
		err = errors.New("there is nothing in it")
	}
	f.found, f.err = found, c.meaning(err)
	if left := c.settle(f, max(life, credentialFault), time.Now()); left > 0 {
		c.log.Warn("the credential could not be refreshed ahead of its end, and is used until then", "error", f.err, "duration", left)
	}
}

// settle remembers how an attempt ended. When it failed and there is a credential still, it returns how long that is used.
func (c *credentials) settle(f *credentialFlight, life time.Duration, now time.Time) (left time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight != f {
		return 0 // forgotten meanwhile: who waits gets it, nobody after them
	}
	c.flight = nil
	switch {
	case f.err == nil:
		c.known, c.fault, c.fetched = f.found, nil, now
		c.ahead, c.until = now.Add(portion(life, credentialAhead)), now.Add(portion(life, credentialUse))
	case c.life.Err() != nil: // the end of the process says nothing of the credential
	case now.Before(c.until) && !c.known.none():
		c.ahead = now.Add(credentialFault)
		return c.until.Sub(now)
	default:
		c.known, c.fault, c.until = credential{}, f.err, now.Add(credentialFault)
	}
	return 0
}

func portion(d time.Duration, part float64) time.Duration { return time.Duration(float64(d) * part) }

// meaning says what an upstream's caller must know about a failure.
func (c *credentials) meaning(err error) error {
	switch {
	case err == nil:
		return nil
	case c.life.Err() != nil:
		return context.Canceled
	case errors.Is(err, signin.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: sign in: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnauthorized, err)
}

// mayHaveEnded reports whether a status is how the registry answers a credential whose time is over.
func (c *credentials) mayHaveEnded(status int) bool {
	return c.configured() && (status == http.StatusUnauthorized || status == http.StatusForbidden && c.source.expiryIs403)
}

// refused notes that the upstream did not take a credential, and reports whether there may be another. status is its
// answer. Of fifty requests that are refused with the same old credential only the first finds it here; the others must
// not throw away what was fetched since.
func (c *credentials) refused(sent credential, status int) bool {
	if !c.configured() {
		return false
	}
	patience := c.source.patience
	if status == http.StatusForbidden {
		patience = deniedPatience
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != sent || c.known.none() {
		return true
	}
	if time.Since(c.fetched) < patience {
		return false
	}
	c.known, c.until = credential{}, time.Time{}
	return true
}

// current returns what is known, without asking anybody.
func (c *credentials) current() credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// forget makes the next get fetch anew, because the operator said so.
func (c *credentials) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.fault, c.until, c.flight = credential{}, nil, time.Time{}, nil
}
