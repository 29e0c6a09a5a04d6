package mirror

import (
	"time"

	"mirror/internal/catalog"
	"mirror/internal/upstream"
)

// trust says how a tag may be served.
type trust uint8

const (
	unknown trust = iota // it is not here
	fresh                // as it is
	ending               // as it is, and it is time to check it for whoever asks next
	due                  // after a check, or stale when that does not come in time
	spared               // stale: what is left of the rate limit is not for checks
	limited              // stale: the rate limit is used up
	expired              // after a check only
)

// As the rate limit of an upstream shrinks, its tags are believed for longer; the last of it is for what is not here at
// all. Below the first share nothing is asked ahead of time either (upstream.Budget.ForBackground).
const (
	lowBudget     = 0.5 // below it, a tag is fresh for lowStretch times as long
	lowStretch    = 2
	scarceBudget  = 0.2
	scarceStretch = 8
	lastBudget    = 0.05 // below it, no tag is checked that may be served stale
)

// trustIn says how a tag that was checked some time ago may be served. budget is asked only when it counts.
func trustIn(f upstream.Freshness, age time.Duration, budget func() upstream.Budget) trust {
	// A negative age is from when the clock was ahead.
	if 0 <= age && age < f.FreshFor-f.FreshFor/4 {
		return fresh
	}
	if 0 <= age && age < f.FreshFor {
		return ending
	}
	b := budget()
	switch {
	case age >= f.StaleFor:
		return expired
	case b.Exhausted():
		return limited
	case b.Left < lastBudget:
		return spared
	case 0 <= age && age < stretched(f, b):
		return fresh
	}
	return due
}

// stretched returns how long a tag is fresh, given what is left of the rate limit. It is never longer than a tag may be
// served stale.
func stretched(f upstream.Freshness, b upstream.Budget) time.Duration {
	switch {
	case b.Left < scarceBudget:
		return min(scarceStretch*f.FreshFor, f.StaleFor)
	case b.Left < lowBudget:
		return min(lowStretch*f.FreshFor, f.StaleFor)
	}
	return f.FreshFor
}

// trusted says how a tag may be served now.
func (m *Mirror) trusted(up *upstream.Registry, key tagName, tag catalog.Tag, known bool) trust {
	if !known {
		return unknown
	}
	return trustIn(up.TagFreshness(key.repo.Name, key.tag), time.Since(tag.CheckedAt), up.Budget)
}
