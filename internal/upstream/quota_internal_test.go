package upstream

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// headerOf makes a header of lines such as "Name: value".
func headerOf(lines string) http.Header {
	header := http.Header{}
	for line := range strings.SplitSeq(lines, "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			header.Add(key, strings.TrimSpace(value))
		}
	}
	return header
}

// quotaSeeds are real answers, and some that are nearly so.
var quotaSeeds = map[string]string{
	"Docker Hub":       "ratelimit-limit: 100;w=21600\nratelimit-remaining: 76;w=21600\ndocker-ratelimit-source: 192.0.2.1",
	"GitLab":           "RateLimit-Limit: 60\nRateLimit-Name: throttle\nRateLimit-Observed: 67\nRateLimit-Remaining: 7\nRateLimit-Reset: 1609844430",
	"third draft":      "RateLimit-Limit: 100, 10;w=1, 100;w=60\nRateLimit-Remaining: 50\nRateLimit-Reset: 20",
	"seventh draft":    "RateLimit: limit=100, remaining=50, reset=5\nRateLimit-Policy: 100;w=60",
	"tenth draft":      "RateLimit: \"burst\";r=90;t=1, \"day\";r=5;t=30\nRateLimit-Policy: \"burst\";q=100;w=1, \"day\";q=1000;w=3600",
	"GitHub":           "X-RateLimit-Limit: 5000\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1609844460\nX-RateLimit-Used: 5000",
	"remaining only":   "RateLimit-Remaining: 3",
	"limit only":       "RateLimit-Limit: 100;w=60",
	"nothing":          "Content-Type: text/plain",
	"not a number":     "RateLimit-Limit: lots\nRateLimit-Remaining: -1",
	"very large":       "RateLimit-Limit: 99999999999999999999\nRateLimit-Remaining: 4611686018427387903;w=4611686018427387903\nRateLimit-Reset: 4611686018427387903",
	"punctuation":      "RateLimit: ;;=;,\",=\nRateLimit-Policy: ,;w=;",
	"policy of nobody": "RateLimit: \"a\";r=1\nRateLimit-Policy: \"b\";q=10;w=60",
}

func TestReadQuota(t *testing.T) {
	now := time.Unix(1609844400, 0)
	f := func(name string, want quota, wantOK bool) {
		t.Helper()
		if got, ok := readQuota(headerOf(quotaSeeds[name]), now); got != want && wantOK || ok != wantOK {
			t.Errorf("%s: got %+v, %v, want %+v, %v", name, got, ok, want, wantOK)
		}
	}
	f("Docker Hub", quota{limit: 100, remaining: 76, window: 6 * time.Hour}, true)
	f("GitLab", quota{limit: 60, remaining: 7, reset: 30 * time.Second}, true)
	f("third draft", quota{limit: 100, remaining: 50, window: time.Minute, reset: 20 * time.Second}, true)
	f("seventh draft", quota{limit: 100, remaining: 50, window: time.Minute, reset: 5 * time.Second}, true)
	f("tenth draft", quota{limit: 1000, remaining: 5, window: time.Hour, reset: 30 * time.Second}, true)
	f("GitHub", quota{limit: 5000, remaining: 0, reset: time.Minute}, true)
	f("remaining only", quota{limit: -1, remaining: 3}, true)
	f("limit only", quota{}, false)
	f("nothing", quota{}, false)
	f("not a number", quota{}, false)
	f("very large", quota{limit: -1, remaining: 1<<62 - 1, window: longestWindow, reset: longestWindow}, true)
	f("punctuation", quota{}, false)
	f("policy of nobody", quota{limit: -1, remaining: 1}, true)
}

func TestRetryAfterOf(t *testing.T) {
	now := time.Unix(1609844400, 0)
	f := func(status int, lines string, want time.Duration) {
		t.Helper()
		resp := &http.Response{StatusCode: status, Header: headerOf(lines)}
		if got := retryAfterOf(resp, now); got != want {
			t.Errorf("%d with %q: got %v, want %v", status, lines, got, want)
		}
	}
	f(429, "Retry-After: 42", 42*time.Second)
	f(429, "Retry-After: Tue, 05 Jan 2021 11:00:30 GMT", 30*time.Second)
	f(429, "Retry-After: soon", 0)
	f(429, "", 0)
	f(429, "RateLimit-Limit: 100;w=600\nRateLimit-Remaining: 0;w=600", 10*time.Minute)
	f(429, "RateLimit-Limit: 100;w=21600\nRateLimit-Remaining: 0;w=21600", time.Hour)
	f(429, "RateLimit-Limit: 100;w=600\nRateLimit-Remaining: 80;w=600", 0) // it is another limit that is used up
	f(429, quotaSeeds["GitHub"], time.Minute)
	f(503, quotaSeeds["GitHub"], 0)
	f(503, "Retry-After: 7", 7*time.Second)
}

func FuzzReadQuota(f *testing.F) {
	for _, seed := range quotaSeeds {
		f.Add(seed)
	}
	now := time.Unix(1609844400, 0)
	f.Fuzz(func(t *testing.T, lines string) {
		q, ok := readQuota(headerOf(lines), now)
		if !ok {
			return
		}
		if q.remaining < 0 || q.limit < -1 || q.window < 0 || q.window > longestWindow || q.reset < 0 || q.reset > longestWindow {
			t.Errorf("%q: got %+v", lines, q)
		}
		for _, passed := range []time.Duration{-time.Hour, 0, time.Second, longestWindow} {
			if left := q.grown(passed); left < 0 || left > 1 {
				t.Errorf("%q: %v is left after %v", lines, left, passed)
			}
		}
		retryAfterOf(&http.Response{StatusCode: 429, Header: headerOf(lines)}, now)
	})
}
