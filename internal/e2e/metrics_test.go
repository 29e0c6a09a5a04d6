//go:build e2e

package e2e_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// metric sums the samples of a metric whose labels hold all the pairs given, such as `source="disk"`.
func (m *mirror) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	page := get(t, oneShot(), m.admin+"/metrics")
	if page.status != http.StatusOK {
		t.Fatalf("GET /metrics: status %d", page.status)
	}
	var sum float64
	for line := range strings.Lines(string(page.body)) {
		if value, ok := sample(strings.TrimSpace(line), name, labels); ok {
			sum += value
		}
	}
	return sum
}

// sample reads one line of the text exposition format, when it is of the metric with these labels.
func sample(line, name string, labels []string) (float64, bool) {
	rest, ok := strings.CutPrefix(line, name)
	if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') {
		return 0, false
	}
	for _, label := range labels {
		if !strings.Contains(rest, label) {
			return 0, false
		}
	}
	value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
	return value, err == nil
}

// goroutines reads how many goroutines the mirror runs, the profile's own included.
func (m *mirror) goroutines(t *testing.T) int {
	t.Helper()
	page := get(t, oneShot(), m.admin+"/debug/pprof/goroutine?debug=1")
	first, _, _ := strings.Cut(string(page.body), "\n")
	n, err := strconv.Atoi(strings.TrimPrefix(first, "goroutine profile: total "))
	if err != nil {
		t.Fatalf("goroutine profile starts with %q", first)
	}
	return n
}

// goroutineProfile lists where the mirror's goroutines are.
func (m *mirror) goroutineProfile(t *testing.T) string {
	t.Helper()
	return string(get(t, oneShot(), m.admin+"/debug/pprof/goroutine?debug=1").body)
}
