package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// asideFor is how long an account whose credentials are refused is left out, while there are others. Each use of it would
// cost a request and a client's time.
const asideFor = 5 * time.Minute

// account is one of the identities that the mirror has at a registry, each with a rate limit of its own. An anonymous
// registry has one, too.
type account struct {
	place       int // among the accounts of the registry, and in the allowances of an endpoint
	key         string
	config      Credentials
	credentials *credentials
	aside       atomic.Int64 // until when it is left out, in nanoseconds since 1970
}

// Identity is the credentials of one account, with the key of the configuration that holds them, relative to the upstream.
type Identity struct {
	Key string // "credentials" or "accounts[i]"
	Credentials
}

// Identities returns the accounts that the mirror has at a registry: those of Accounts or, when that is empty, the one of
// Credentials, which may be anonymous.
func (c Config) Identities() []Identity {
	if len(c.Accounts) == 0 {
		return []Identity{{"credentials", c.Credentials}}
	}
	all := make([]Identity, len(c.Accounts))
	for i, one := range c.Accounts {
		all[i] = Identity{fmt.Sprintf("accounts[%d]", i), one}
	}
	return all
}

// anonymous reports whether there are no credentials at all.
func (c Config) anonymous() bool { return len(c.Accounts) == 0 && c.Credentials.forms() == 0 }

// newAccounts builds the accounts. It dials nothing.
func (r *Registry) newAccounts(log *slog.Logger) []*account {
	var all []*account
	for i, one := range r.config.Identities() {
		all = append(all, &account{
			place: i, key: one.Key, config: one.Credentials, credentials: newCredentials(r.life, r.newSource(one.Credentials), log),
		})
	}
	return all
}

// isAside reports whether the account is left out. What is further away than that lasts is from before the clock was set
// back.
func (a *account) isAside(now time.Time) bool { return lasts(a.aside.Load(), now, asideFor) }

// lasts reports whether a time of the clock, in nanoseconds since 1970, is still to come, and was set at most so long ago.
func lasts(until int64, now time.Time, most time.Duration) bool {
	left := time.Duration(until - now.UnixNano())
	return 0 < left && left <= most
}

// inUse returns the accounts that are not set aside, or all when none is left.
func (r *Registry) inUse(now time.Time) []*account {
	if len(r.accounts) == 1 {
		return r.accounts
	}
	left := slices.DeleteFunc(slices.Clone(r.accounts), func(a *account) bool { return a.isAside(now) })
	if len(left) == 0 {
		return slices.Clone(r.accounts)
	}
	return left
}

// accountsFor returns the accounts to ask an endpoint as, the one with most left of its rate limit first.
func (r *Registry) accountsFor(e *endpoint) []*account {
	now := time.Now()
	all := r.inUse(now)
	if len(all) == 1 {
		return all
	}
	left := make(map[*account]Budget, len(all))
	for _, a := range all {
		left[a] = e.allowances[a.place].budget(now)
	}
	slices.SortStableFunc(all, func(a, b *account) int {
		switch {
		case left[a].better(left[b]):
			return -1
		case left[b].better(left[a]):
			return 1
		}
		return 0
	})
	return all
}

// worthAnotherAccount reports whether a call that failed may do better as somebody else. That something is not there is
// believed: the accounts of a registry are taken to see the same.
func (r *Registry) worthAnotherAccount(ctx context.Context, err error) bool {
	return len(r.accounts) > 1 && ctx.Err() == nil && !errors.Is(err, errLimited) &&
		(errors.Is(err, ErrTooManyRequests) || errors.Is(err, ErrDenied) || errors.Is(err, ErrUnauthorized))
}

// doubt sets an account aside when a failure is about its credentials: they cannot be read, or a token service does not know
// them. A token service that knows them and denies a token, and a registry that refuses a token which it has just been
// given, refuse the repository, and clients choose that.
func (r *Registry) doubt(a *account, c call, err error) {
	status, answered := errors.AsType[*StatusError](err)
	switch {
	case !errors.Is(err, ErrDenied) && !errors.Is(err, ErrUnauthorized):
	case !answered && errors.Is(err, ErrUnauthorized), // they cannot be read
		answered && !answers(err, c.path) && status.Status == http.StatusUnauthorized:
		r.setAside(a, err)
	}
}

// setAside leaves an account out for a while, if there are others.
func (r *Registry) setAside(a *account, cause error) {
	now := time.Now()
	if len(r.accounts) == 1 || a.isAside(now) {
		return
	}
	a.aside.Store(now.Add(asideFor).UnixNano())
	r.log.Warn(a.key+" is refused and set aside for a while: renew its credentials", "duration", asideFor, "error", cause)
}
