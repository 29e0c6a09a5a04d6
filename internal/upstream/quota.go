package upstream

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The most that is read of what a server says about its limits. Real answers hold one or two policies of some words.
const (
	maxQuotaText  = 1 << 10
	maxQuotaItems = 16
)

// longestWindow bounds a window that a server names. The longest in use has six hours.
const longestWindow = 24 * time.Hour

// quota is what an answer says about the rate limit of whoever asked. Registries say it in four dialects:
//
//	RateLimit-Limit: 100;w=21600     RateLimit-Remaining: 76;w=21600      Docker Hub
//	RateLimit-Limit: 60              RateLimit-Reset: 1609844400          GitLab, and others with seconds to wait
//	RateLimit: "hour";r=50;t=30      RateLimit-Policy: "hour";q=100;w=60  the IETF's draft, from the eighth on
//	X-RateLimit-Limit: 60            X-RateLimit-Reset: 1609844400        GitHub and its imitators
type quota struct {
	limit     int64         // requests in a window; -1 when not told
	remaining int64         // requests that are left; -1 when not told
	window    time.Duration // zero when not told
	reset     time.Duration // until all of the limit is there again; zero when not told
}

// left returns the part of the limit that is left, or 1 when that was not told.
func (q quota) left() float64 {
	switch {
	case q.remaining == 0:
		return 0
	case q.remaining < 0 || q.limit <= 0:
		return 1
	}
	return min(float64(q.remaining)/float64(q.limit), 1)
}

// readQuota reads the headers of an answer. Where several limits are told, the one with the least left counts. It returns
// false when no remaining number is told.
func readQuota(header http.Header, now time.Time) (quota, bool) {
	if q, ok := readDraftQuota(header, now); ok {
		return q, true
	}
	for _, prefix := range []string{"RateLimit-", "X-RateLimit-"} {
		if q, ok := readPlainQuota(header, prefix, now); ok {
			return q, true
		}
	}
	return quota{}, false
}

// readPlainQuota reads one header for each number.
func readPlainQuota(header http.Header, prefix string, now time.Time) (quota, bool) {
	q := quota{limit: -1, remaining: -1}
	if limits := parseQuotaItems(header.Get(prefix + "Limit")); len(limits) > 0 {
		q.limit = limits[0].bare()
		q.window = limits[0].seconds("w")
		// "100, 100;w=60" names the number first and the policy, with its window, after that.
		for _, policy := range limits[1:] {
			if q.window == 0 && policy.bare() == q.limit {
				q.window = policy.seconds("w")
			}
		}
	}
	if left := parseQuotaItems(header.Get(prefix + "Remaining")); len(left) > 0 {
		q.remaining = left[0].bare()
		q.window = orDefault(q.window, left[0].seconds("w"))
	}
	if resets := parseQuotaItems(header.Get(prefix + "Reset")); len(resets) > 0 {
		q.reset = untilReset(resets[0].bare(), now)
	}
	return q, q.remaining >= 0
}

// untilReset reads the time of a reset: seconds to wait, or, at some registries, seconds since 1970.
func untilReset(n int64, now time.Time) time.Duration {
	const tooLongToWait = 1_000_000_000
	if n >= tooLongToWait {
		return bounded(time.Unix(n, 0).Sub(now))
	}
	return bounded(seconds(n))
}

// readDraftQuota reads the RateLimit header of the IETF's drafts: one item for each policy since the eighth, a list of
// words and numbers in the seventh.
func readDraftQuota(header http.Header, now time.Time) (quota, bool) {
	items := parseQuotaItems(strings.Join(header.Values("RateLimit"), ","))
	policies := parseQuotaItems(strings.Join(header.Values("RateLimit-Policy"), ","))
	if old, ok := readSeventhDraft(items, policies, now); ok {
		return old, true
	}
	least, found := quota{}, false
	for _, item := range items {
		q := quota{limit: -1, remaining: item.number("r"), reset: untilReset(item.number("t"), now)}
		for _, policy := range policies {
			if policy.name == item.name {
				q.limit, q.window = policy.number("q"), policy.seconds("w")
			}
		}
		if q.remaining >= 0 && (!found || q.left() < least.left()) {
			least, found = q, true
		}
	}
	return least, found
}

// readSeventhDraft reads "limit=100, remaining=50, reset=5" and a policy such as "100;w=60".
func readSeventhDraft(items, policies []quotaItem, now time.Time) (quota, bool) {
	q := quota{limit: -1, remaining: -1}
	for _, item := range items {
		switch key, value, _ := strings.Cut(item.name, "="); key {
		case "limit":
			q.limit = parseCount(value)
		case "remaining":
			q.remaining = parseCount(value)
		case "reset":
			q.reset = untilReset(parseCount(value), now)
		}
	}
	for _, policy := range policies {
		if policy.bare() == q.limit {
			q.window = policy.seconds("w")
		}
	}
	return q, q.remaining >= 0
}

// quotaItem is one entry of a header: a name or number with parameters.
type quotaItem struct {
	name   string // lower case, without quotes
	params map[string]string
}

// bare returns the number that the item is, or -1.
func (i quotaItem) bare() int64 { return parseCount(i.name) }

// number returns a parameter, or -1.
func (i quotaItem) number(key string) int64 { return parseCount(i.params[key]) }

// seconds returns a parameter that is a time, or zero.
func (i quotaItem) seconds(key string) time.Duration { return bounded(seconds(i.number(key))) }

// parseQuotaItems reads a list of items with parameters. Of what is malformed the readable part counts: nobody's safety
// depends on it.
func parseQuotaItems(text string) []quotaItem {
	var items []quotaItem
	for entry := range strings.SplitSeq(text[:min(len(text), maxQuotaText)], ",") {
		name, rest, _ := strings.Cut(entry, ";")
		item := quotaItem{name: plainWord(name), params: map[string]string{}}
		for param := range strings.SplitSeq(rest, ";") {
			key, value, _ := strings.Cut(param, "=")
			item.params[plainWord(key)] = plainWord(value)
		}
		if items = append(items, item); len(items) == maxQuotaItems {
			break
		}
	}
	return items
}

func plainWord(text string) string { return strings.ToLower(strings.Trim(text, " \t\"")) }

// parseCount reads digits only, or returns -1.
func parseCount(text string) int64 {
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return -1
	}
	return int64(n)
}

// seconds returns n seconds, or zero for a number that was not told.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), math.MaxInt64/int64(time.Second))) * time.Second
}

func bounded(d time.Duration) time.Duration { return min(max(d, 0), longestWindow) }
