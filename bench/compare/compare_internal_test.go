package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mirror/bench/origin"
	"mirror/internal/oci"
	"mirror/internal/units"
)

func TestTicks(t *testing.T) {
	// utime 7, stime 5, cutime 3, cstime 1.
	line := "12 (a (strange) name) S 1 12 12 0 -1 4194560 100 0 0 0 7 5 3 1 20 0 1 0 100 0 0"
	if got, err := ticksOf(line); err != nil || got != 16 {
		t.Errorf("ticks are %d and %v, want 16", got, err)
	}
	if _, err := ticksOf("12 (short) S 1"); err == nil {
		t.Error("a line that is cut was taken")
	}
}

func TestBusy(t *testing.T) {
	if got, err := busyOf(strings.Fields("1 2 3 1000 2000 4 5 6 0 0")); err != nil || got != 21*tick {
		t.Errorf("busy is %v and %v, want %v", got, err, 21*tick)
	}
	if _, err := busyOf([]string{"1"}); err == nil {
		t.Error("a line that is cut was taken")
	}
}

func TestTakeWRK(t *testing.T) {
	text := `  Latency Distribution
     50%  451.00us
     75%  700.00us
     99%    1.52ms
  150000 requests in 2.00s, 600.00MB read
Requests/sec:  75000.00
`
	var f figure
	if err := f.takeWRK([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if f.rate() != 75_000 || f.P50 != 451*time.Microsecond || f.P99 != 1520*time.Microsecond {
		t.Errorf("figure is %+v", f)
	}
	for _, bad := range []string{"", text + "  Non-2xx or 3xx responses: 3\n", text + "  Socket errors: connect 0, read 3, write 0, timeout 0\n"} {
		if err := f.takeWRK([]byte(bad)); err == nil {
			t.Errorf("taken for good: %q", bad)
		}
	}
}

func TestEveryTargetIsConfigured(t *testing.T) {
	d := oci.MustParseDigest("sha256:" + strings.Repeat("ab", 32))
	images := []*origin.Image{{Repository: "bench/tiny", Sizes: []int64{4}, Manifest: d, Layers: []oci.Digest{d}}}
	for _, target := range targets() {
		for _, secure := range []bool{false, true} {
			p := place{Program: "mirror", Dir: t.TempDir(), Address: "127.0.0.1:1", Admin: "127.0.0.1:2", Origin: "127.0.0.1:3", Fixture: "/f",
				Cache: 128 * units.MiB, Secure: secure, Cert: "/c", Key: "/k", Images: images}
			words, err := target.configure(p)
			if err != nil || len(words) < 3 || strings.Contains(strings.Join(words, " "), "{{") {
				t.Errorf("%s: command is %q, %v", target.name, words, err)
			}
		}
	}
	if len(targets()) > len(colours) {
		t.Errorf("the plot has %d colours for %d targets", len(colours), len(targets()))
	}
}

func TestPlottedScenariosExist(t *testing.T) {
	for _, name := range plotted {
		if !slices.ContainsFunc(scenarios(), func(c scenario) bool { return c.name == name && !c.full }) {
			t.Errorf("no scenario of the short profile is called %q", name)
		}
	}
}

// measured is a report with two rounds of two targets.
func measured() *report {
	r := &report{Revision: "abc<1>", Settings: settings{Profile: "short", Rounds: 2}}
	for round, count := range []float64{100, 110} {
		for target, times := range map[string]float64{ours: 2, baseline: 1} {
			r.Figures = append(r.Figures, figure{Scenario: "GET manifest by tag", Target: target, Network: machine, Round: round,
				Count: count * times, Elapsed: time.Second, CPU: 500 * time.Millisecond, P99: time.Millisecond})
		}
		r.Figures = append(r.Figures, figure{Scenario: "cold 1 GiB, open link", Target: "varnish", Network: machine, Round: round, Failed: "no | luck\nat all"})
	}
	return r
}

func TestTables(t *testing.T) {
	var out bytes.Buffer
	measured().writeTables(&out)
	for _, want := range []string{
		"| GET manifest by tag | mirror | 210/s | 2.00 | 420/s | 2.00 |", "| GET manifest by tag | nginx static | 105/s | 1.00 |",
		"| cold 1 GiB, open link | varnish | failed: no / luck |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	columns := 0
	for line := range strings.Lines(out.String()) {
		n := strings.Count(line, "|")
		if n > 0 && columns > 0 && n != columns {
			t.Errorf("a row of %d columns in a table of %d: %s", n, columns, line)
		}
		columns = n
	}
}

func TestBetterIsAboveOne(t *testing.T) {
	f := func(u unit, a, b row, want float64) {
		t.Helper()
		a.unit, b.unit = u, u
		if got := a.better(b); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%s: %v, want %v", u, got, want)
		}
	}
	f(requests, row{rate: 30}, row{rate: 10}, 3)
	f(seconds, row{elapsed: time.Second}, row{elapsed: 2 * time.Second}, 2)
	f(resident, row{memory: 4}, row{memory: 2}, 0.5)
	f(content, row{}, row{rate: 10}, math.NaN())
}

func TestPlotIsXML(t *testing.T) {
	var out bytes.Buffer
	measured().writePlot(&out)
	for decoder := xml.NewDecoder(&out); ; {
		if _, err := decoder.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestChosen(t *testing.T) {
	p := &pass{options: options{only: regexp.MustCompile("layer"), network: cubic}}
	for _, c := range p.chosen(func(scenario) bool { return true }) {
		if !c.everywhere || c.full || !strings.Contains(c.name, "layer") {
			t.Errorf("%q is measured under %s in the short profile", c.name, cubic)
		}
	}
}

func TestReadFiguresKeepsWhatCameBeforeAnError(t *testing.T) {
	figures, err := readFigures(bufio.NewReader(strings.NewReader(`{"Scenario":"a","Count":3}` + "\n{broken")))
	if len(figures) != 1 || figures[0].Count != 3 || err == nil {
		t.Errorf("figures are %+v, error %v", figures, err)
	}
}
