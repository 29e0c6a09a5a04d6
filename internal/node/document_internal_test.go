package node

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/config"
)

var update = flag.Bool("update", false, "write the generated document anew")

const document = "../../docs/metrics.md"

// The part of the document between these lines is written by a run with -update.
const (
	tableBegin = "<!-- metrics: written by go test ./internal/node -update -->\n"
	tableEnd   = "<!-- end of metrics -->\n"
)

// TestDocumentShowsEveryMetric compares docs/metrics.md with what a node has registered, whether or not anything has
// been counted yet.
func TestDocumentShowsEveryMetric(t *testing.T) {
	n := startForDocument(t)
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(content), tableBegin)
	_, after, closed := strings.Cut(rest, tableEnd)
	if !ok || !closed {
		t.Fatalf("%s lacks the lines that surround the table", document)
	}
	want := before + tableBegin + metricTable(n) + tableEnd + after
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if string(content) != want {
		t.Errorf("%s is out of date, want\n%s", document, want)
	}
}

// TestScrapeIsDocumented scrapes a node and looks every metric up, with its type.
func TestScrapeIsDocumented(t *testing.T) {
	n := startForDocument(t)
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + n.AdminAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	found := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		var name, kind string
		if _, err := fmt.Sscanf(lines.Text(), "# TYPE %s %s", &name, &kind); err != nil || !strings.HasPrefix(name, "mirror_") {
			continue
		}
		found++
		if !strings.Contains(string(content), fmt.Sprintf("| `%s` | %s |", name, kind)) {
			t.Errorf("%s, a %s, is not in %s", name, kind, document)
		}
	}
	if found == 0 {
		t.Error("the scrape shows no metric of ours")
	}
}

// startForDocument starts a node with everything on, which stops with the test. Peers are on the loopback only, so that they need
// no secret.
func startForDocument(t *testing.T) *Node {
	t.Helper()
	cfg := config.Default()
	cfg.Server.Listen, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Cache.Dir = filepath.Join(t.TempDir(), "data")
	cfg.Peers.Listen = "127.0.0.1:0"
	n, err := New(cfg, "v0.0.0-test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := n.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

// description takes name, help and labels out of the text of a prometheus.Desc, which shows them in no other way.
var description = regexp.MustCompile(`fqName: "(mirror_\w+)", help: "(.*)", unit: "\w*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}`)

// constLabel matches the name of a label whose value is fixed.
var constLabel = regexp.MustCompile(`(\w+)="`)

// metricTable renders every metric of ours that a node has registered.
func metricTable(n *Node) string {
	descriptions := make(chan *prometheus.Desc)
	go func() {
		n.registry.Describe(descriptions)
		close(descriptions)
	}()
	var rows []string
	for d := range descriptions {
		match := description.FindStringSubmatch(d.String())
		if match == nil {
			continue
		}
		labels := strings.FieldsFunc(match[4], func(r rune) bool { return r == ',' })
		for _, label := range constLabel.FindAllStringSubmatch(match[3], -1) {
			labels = append(labels, label[1])
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", match[1], kindOf(match[1]), strings.Join(labels, ", "), match[2]))
	}
	slices.Sort(rows)
	rows = slices.Compact(rows) // one for each value of a constant label
	return "| metric | type | labels | counts or shows |\n|---|---|---|---|\n" + strings.Join(rows, "")
}

// kindOf is the type that a name promises: the names keep to the convention, and the scrape proves it.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_timestamp_seconds"):
		return "gauge"
	case strings.HasSuffix(name, "_seconds"):
		return "histogram"
	default:
		return "gauge"
	}
}
