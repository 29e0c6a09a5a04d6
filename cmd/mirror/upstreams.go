package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"mirror/internal/admin"
)

// writeUpstreams writes a block for each upstream that was used or is unwell, and names the others in one line.
func writeUpstreams(out io.Writer, s admin.Status, now time.Time) {
	var idle []string
	for _, u := range s.Upstreams {
		if !used(u) && !unwell(u) {
			idle = append(idle, u.Registry)
			continue
		}
		fmt.Fprintf(out, "\n%s\n", u.Registry)
		for _, line := range describeUpstream(u, now) {
			fmt.Fprintln(out, "  "+line)
		}
	}
	if len(idle) > 0 {
		fmt.Fprintf(out, "\nnot used yet: %s\n", strings.Join(idle, ", "))
	}
}

func used(u admin.UpstreamStatus) bool {
	return u.Requests > 0 || u.Traffic.Served > 0 || u.InFlight.InUse+u.InFlight.Waiting > 0
}

// unwell reports whether an operator may have something to do about an upstream, or wonder why it is not asked.
func unwell(u admin.UpstreamStatus) bool {
	for _, e := range u.Endpoints {
		if e.State != "closed" {
			return true
		}
	}
	for _, a := range u.Accounts {
		limited := a.RateLimit != nil && (!a.RateLimit.ManifestsFrom.IsZero() || !a.RateLimit.BlobsFrom.IsZero())
		if limited || !a.AsideUntil.IsZero() || a.Credential != nil && a.Credential.Fault != "" {
			return true
		}
	}
	return !u.Available
}

// describeUpstream returns lines of a name, a tab and what is to be said. What has not happened is left out.
func describeUpstream(u admin.UpstreamStatus, now time.Time) (lines []string) {
	for _, e := range u.Endpoints {
		lines = append(lines, "endpoint\t"+e.URL+"\t"+endpointState(u, e, now))
	}
	if used(u) {
		lines = append(lines, fmt.Sprintf("traffic\t%s served, %s fetched in %d requests, %s saved",
			readableSize(u.Traffic.Served), readableSize(u.Traffic.Upstream), u.Requests, readableSize(max(0, u.Traffic.Saved))))
	}
	if waiting := u.InFlight.Waiting + u.Transfers.Waiting; u.InFlight.InUse+waiting > 0 {
		lines = append(lines, fmt.Sprintf("connections\t%d of %d in use, %d of them for blobs; %d requests wait for one",
			u.InFlight.InUse, u.InFlight.Limit, u.Transfers.InUse, waiting))
	}
	if p := u.Prefetch; p.Bytes > 0 || p.Fills+p.Planned > 0 {
		lines = append(lines, fmt.Sprintf("prefetch\t%s, of which %s were asked for; %d downloads now, %d planned",
			readableSize(p.Bytes), readableSize(p.Used), p.Fills, p.Planned))
	}
	for _, a := range u.Accounts {
		lines = append(lines, describeAccount(a, len(u.Accounts) > 1, now)...)
	}
	return lines
}

// endpointState says in words what a breaker does, for how long it has, and why, or that nothing is asked at all.
func endpointState(u admin.UpstreamStatus, e admin.EndpointStatus, now time.Time) string {
	switch {
	case u.Offline:
		return "offline"
	case e.State == "closed":
		return "works" + pace(e)
	case e.State == "open":
		return "left alone for " + readableAge(now, e.Since) + ": " + e.LastError
	}
	return "being tried: " + e.LastError
}

// pace says how long an endpoint takes to answer, once it has.
func pace(e admin.EndpointStatus) string {
	if e.HeaderSeconds <= 0 {
		return ""
	}
	text := fmt.Sprintf(", answers in %d ms", int(e.HeaderSeconds*1000+0.5))
	if e.Slow {
		text += ", much slower than another, and is asked after it"
	}
	return text
}

// describeAccount returns a line about how the mirror is signed in and one about the rate limit, if there is anything to be
// said. One account of several is named.
func describeAccount(a admin.AccountStatus, several bool, now time.Time) (lines []string) {
	name := ""
	if several {
		name = a.Key + ": "
	}
	for _, about := range []struct{ what, text string }{
		{"sign-in", describeSignIn(a, now)}, {"rate limit", describeRateLimit(a.RateLimit, now)},
	} {
		if about.text != "" {
			lines = append(lines, about.what+"\t"+name+about.text)
		}
	}
	return lines
}

func describeSignIn(a admin.AccountStatus, now time.Time) string {
	var parts []string
	if !a.AsideUntil.IsZero() {
		parts = append(parts, "refused, and left out for "+readableDuration(a.AsideUntil.Sub(now))+" more: renew its credentials")
	}
	switch c := a.Credential; {
	case c == nil:
	case c.Fault != "":
		parts = append(parts, "no credential: "+c.Fault)
	default:
		parts = append(parts, fmt.Sprintf("credential of %s ago, used for %s more", readableAge(now, c.Fetched), readableDuration(c.Expires.Sub(now))))
	}
	if t := a.Tokens; t != nil {
		parts = append(parts, fmt.Sprintf("%d tokens, the oldest of %s ago, the first ends in %s",
			t.Held, readableAge(now, t.Oldest), readableDuration(t.Expires.Sub(now))))
	}
	return strings.Join(parts, "; ")
}

func describeRateLimit(l *admin.RateLimitStatus, now time.Time) string {
	if l == nil {
		return ""
	}
	var parts []string
	if l.Remaining != nil {
		parts = append(parts, fmt.Sprintf("%d%s were left %s ago", *l.Remaining, requestsOf(l), readableAge(now, l.Told)))
	}
	for _, moment := range []struct {
		at   time.Time
		what string
	}{{l.Reset, "all of them again in "}, {l.ManifestsFrom, "no manifests for "}, {l.BlobsFrom, "no blobs for "}} {
		if !moment.at.IsZero() {
			parts = append(parts, moment.what+readableDuration(moment.at.Sub(now)))
		}
	}
	return strings.Join(parts, "; ")
}

// requestsOf says of how many requests, and in which time, as far as the upstream told.
func requestsOf(l *admin.RateLimitStatus) string {
	if l.Limit == nil {
		return " requests"
	}
	text := fmt.Sprintf(" of %d requests", *l.Limit)
	if l.WindowSeconds > 0 {
		text += " per " + readableDuration(time.Duration(l.WindowSeconds)*time.Second)
	}
	return text
}
