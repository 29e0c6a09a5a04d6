package upstream

import "time"

// Condition is all that an operator may want to know of an upstream, from memory. No credential and no token is in it.
type Condition struct {
	Health
	// Requests are those that are under way, each on a connection, transfers of blobs included; Transfers are the latter
	// alone. A transfer waits for its place among the transfers first.
	Requests, Transfers Usage
	// Accounts are the identities that the mirror has at the registry, in the order of the configuration; never none.
	Accounts []AccountCondition
	// Budget is what is left of the rate limit of the account that has most.
	Budget Budget
}

// Usage says how much of a limit is used.
type Usage struct {
	InUse   int
	Waiting int // how many want a place and have none
	Limit   int
}

// AccountCondition is how one account is doing.
type AccountCondition struct {
	// Key is the key of the configuration that holds the account, such as "accounts[0]".
	Key       string
	Anonymous bool
	// AsideUntil is how long the account is left out because it was refused; zero when it is not.
	AsideUntil time.Time
	Credential CredentialCondition
	Tokens     TokenCondition
	RateLimit  RateLimit
}

// CredentialCondition says of when a credential is. It is the zero value while the mirror holds none, because nothing has
// needed it yet, or there is none to be had.
type CredentialCondition struct {
	Fetched time.Time
	// Expires is until when it is used. While it is in use it is fetched anew before that.
	Expires time.Time
	// Fault is why there is none, or empty.
	Fault string
}

// TokenCondition sums up the tokens that an account has from token services, one for each repository in use.
type TokenCondition struct {
	Held int // how many are good
	// Oldest is when the first of them was fetched, and Expires when the first ends. They are zero without any.
	Oldest, Expires time.Time
}

// RateLimit is what the registry told last of an account's limit, and whether it has told it to wait.
type RateLimit struct {
	// Told is when; zero means never, and then no number counts.
	Told time.Time
	// Limit and Remaining are numbers of requests, -1 when not told.
	Limit, Remaining int64
	// Window is the time to which the limit applies; zero when not told.
	Window time.Duration
	// Reset is when all of the limit is there again; zero when not told, or over.
	Reset time.Time
	// ManifestsFrom and BlobsFrom are when the registry may be asked for them again; zero when it may be now.
	ManifestsFrom, BlobsFrom time.Time
}

// Condition returns how the upstream is doing. It costs no I/O.
func (r *Registry) Condition() Condition {
	now, l := time.Now(), r.limits.Load()
	c := Condition{Health: r.Health(), Requests: l.connections.usage(), Transfers: l.transfers.usage(), Budget: r.Budget()}
	for _, a := range r.accounts {
		c.Accounts = append(c.Accounts, AccountCondition{
			Key: a.key, Anonymous: !a.credentials.configured(), AsideUntil: a.asideUntil(now),
			Credential: a.credentials.condition(now), Tokens: r.tokens.condition(a, now), RateLimit: r.rateLimit(a, now),
		})
	}
	return c
}

func (p *places) usage() Usage { return Usage{InUse: p.inUse(), Waiting: p.waiting(), Limit: p.most()} }

func (a *account) asideUntil(now time.Time) time.Time {
	if !a.isAside(now) {
		return time.Time{}
	}
	return time.Unix(0, a.aside.Load())
}

func (c *credentials) condition(now time.Time) CredentialCondition {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !now.Before(c.until):
		return CredentialCondition{}
	case c.fault != nil:
		return CredentialCondition{Fault: c.fault.Error()}
	case c.known.none():
		return CredentialCondition{}
	}
	return CredentialCondition{Fetched: c.fetched, Expires: c.until}
}

func (t *tokens) condition(a *account, now time.Time) (c TokenCondition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, kept := range t.kept {
		if key.account != a.place || !now.Before(kept.expires) {
			continue
		}
		c.Oldest, c.Expires = earlier(c.Oldest, kept.fetched), earlier(c.Expires, kept.expires)
		c.Held++
	}
	return c
}

// earlier returns the time that comes first, of those that are one.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// rateLimit returns what the endpoint has told that told last. An account has to wait when all endpoints want that.
func (r *Registry) rateLimit(a *account, now time.Time) RateLimit {
	all := RateLimit{Limit: -1, Remaining: -1}
	for i, e := range r.endpoints {
		one := e.allowances[a.place].rateLimit(now)
		manifests, blobs := all.ManifestsFrom, all.BlobsFrom
		if i == 0 {
			manifests, blobs = one.ManifestsFrom, one.BlobsFrom
		}
		if one.Told.After(all.Told) {
			all = one
		}
		all.ManifestsFrom, all.BlobsFrom = sooner(manifests, one.ManifestsFrom), sooner(blobs, one.BlobsFrom)
	}
	return all
}

// sooner returns the time that comes first, where none means now.
func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (a *allowance) rateLimit(now time.Time) RateLimit {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := RateLimit{Told: a.told, Limit: -1, Remaining: -1}
	if !a.told.IsZero() {
		l.Limit, l.Remaining, l.Window = a.last.limit, a.last.remaining, a.last.window
	}
	if reset := a.told.Add(a.last.reset); a.last.reset > 0 && now.Before(reset) {
		l.Reset = reset
	}
	l.ManifestsFrom, l.BlobsFrom = a.pauses[documents].from(now), a.pauses[blobs].from(now)
	return l
}

// from returns when requests may be sent again, or zero when they may be now.
func (p *halt) from(now time.Time) time.Time {
	if p.running(now) {
		return p.until
	}
	return time.Time{}
}
