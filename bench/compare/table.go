package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// row is what all rounds of one scenario with one target under one network say together.
type row struct {
	scenario
	target, network string
	// rate, perCPU and the rest are medians of the rounds; spread is how far the best rate is from the worst, as a share of
	// the median.
	rate, perCPU, spread   float64
	elapsed, p50, p99      time.Duration
	first, cpu             time.Duration
	memory, peak           int64
	egress, others, amount float64
	failed                 string
}

// rows puts the rounds together, in the order of scenarios and targets.
func (r *report) rows(network string) (all []row) {
	for _, c := range scenarios() {
		for _, t := range targets() {
			var figures []figure
			for _, f := range r.Figures {
				if f.Scenario == c.name && f.Target == t.name && f.Network == network {
					figures = append(figures, f)
				}
			}
			if len(figures) > 0 {
				all = append(all, combine(c, t.name, network, figures))
			}
		}
	}
	return all
}

func combine(c scenario, target, network string, figures []figure) row {
	w := row{scenario: c, target: target, network: network}
	good := slices.DeleteFunc(slices.Clone(figures), func(f figure) bool { return f.Failed != "" })
	if len(good) == 0 {
		w.failed = figures[0].Failed
		return w
	}
	w.rate, w.perCPU = median(good, figure.rate), median(good, figure.perCPU)
	w.spread = (highest(good, figure.rate) - lowest(good, figure.rate)) / w.rate
	w.elapsed = time.Duration(median(good, func(f figure) float64 { return float64(f.Elapsed) }))
	w.p50 = time.Duration(median(good, func(f figure) float64 { return float64(f.P50) }))
	w.p99 = time.Duration(median(good, func(f figure) float64 { return float64(f.P99) }))
	w.first = time.Duration(median(good, func(f figure) float64 { return float64(f.First) }))
	w.cpu = time.Duration(median(good, func(f figure) float64 { return float64(f.CPU) }))
	w.memory = int64(median(good, func(f figure) float64 { return float64(f.Memory) }))
	w.peak = int64(median(good, func(f figure) float64 { return float64(f.Peak) }))
	w.egress = median(good, func(f figure) float64 { return f.Egress })
	w.others = highest(good, func(f figure) float64 { return f.Others })
	w.amount = median(good, func(f figure) float64 { return f.Count })
	return w
}

func sorted(all []figure, of func(figure) float64) []float64 {
	values := make([]float64, 0, len(all))
	for _, f := range all {
		values = append(values, of(f))
	}
	slices.Sort(values)
	return values
}

func median(all []figure, of func(figure) float64) float64 {
	values := sorted(all, of)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}

func highest(all []figure, of func(figure) float64) float64 { return slices.Max(sorted(all, of)) }
func lowest(all []figure, of func(figure) float64) float64  { return slices.Min(sorted(all, of)) }

// better returns how much better w is than other: more per second, or less time, or less memory. It is 1 for the same,
// and not a number when one of them has nothing to show.
func (w row) better(other row) float64 {
	switch w.unit {
	case seconds:
		return ratio(float64(other.elapsed), float64(w.elapsed))
	case resident:
		return ratio(float64(other.memory), float64(w.memory))
	}
	return ratio(w.rate, other.rate)
}

// cheaper is better for CPU time.
func (w row) cheaper(other row) float64 { return ratio(w.perCPU, other.perCPU) }

func ratio(a, b float64) float64 {
	if a <= 0 || b <= 0 {
		return math.NaN()
	}
	return a / b
}

// compared returns the row that w is compared with: of the baseline, or of its sibling that pulls through when the
// baseline cannot do that.
func compared(all []row, w row) (row, bool) {
	for _, name := range []string{baseline, "nginx proxy_cache"} {
		for _, other := range all {
			if other.target == name && other.name == w.name && other.failed == "" {
				return other, true
			}
		}
	}
	return row{}, false
}

func (r *report) writeTables(w io.Writer) {
	fmt.Fprintf(w, "# Side by side\n\n")
	fmt.Fprintf(w, "Revision %s, %s, %s, %d cores, %d GiB, Linux %s, congestion control %s. Profile %s, medians of %d interleaved rounds of %v; servers on core %d, "+
		"clients and registry on core %d, %d connections where nothing else is said. Load of the machine before: %s, after: %s. Programs: %s.\n\n",
		r.Revision, r.Begun.Format("2 January 2006 15:04 MST"), r.Machine.Processor, r.Machine.Cores, r.Machine.MemoryKiB>>20, r.Machine.Kernel, r.Machine.Congestion,
		r.Settings.Profile, r.Settings.Rounds, r.Settings.Turn, r.Settings.ServerCore, r.Settings.ClientCore, r.Settings.Connections,
		r.LoadBefore, r.LoadAfter, r.programs())
	fmt.Fprintf(w, "A ratio is to %s, or to nginx proxy_cache where a server has to pull; above 1 is better, for time and memory too. "+
		"Others is the most that other processes had of the servers' core in a round.\n", baseline)
	for _, network := range []string{machine, cubic} {
		if all := r.rows(network); len(all) > 0 {
			fmt.Fprintf(w, "\n## Network: %s\n", network)
			writeRates(w, all)
			writeTimes(w, all)
			writeMemory(w, all)
		}
	}
	if r.Start != "" {
		fmt.Fprintf(w, "\n## Start with many blobs (mirror)\n\n%s", r.Start)
	}
}

func (r *report) programs() string {
	var all []string
	for _, name := range []string{"go", "nginx", "varnish", "docker-registry", "wrk"} {
		all = append(all, r.Versions[name])
	}
	return strings.Join(all, "; ")
}

func writeRates(w io.Writer, all []row) {
	writeRows(w, all, []unit{requests, content}, "| scenario | server | rate | ratio | per CPU second | ratio | p50 | p99 | memory | egress | spread | others |", func(r, base row, ok bool) {
		better, cheaper := "", ""
		if ok {
			better, cheaper = twoDigits(r.better(base)), twoDigits(r.cheaper(base))
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.0f %% | %.0f %% |\n", r.name, r.target, r.unit.rate(r.rate), better,
			r.unit.rate(r.perCPU), cheaper, short(r.p50), short(r.p99), mib(r.peak), nonzero(r.egress), 100*r.spread, 100*r.others)
	})
}

func writeTimes(w io.Writer, all []row) {
	writeRows(w, all, []unit{seconds}, "| scenario | server | time | ratio | CPU s per GB | ratio | first byte, median | peak memory | egress | spread | others |", func(r, base row, ok bool) {
		better, cheaper := "", ""
		if ok {
			better, cheaper = twoDigits(r.better(base)), twoDigits(r.cheaper(base))
		}
		fmt.Fprintf(w, "| %s | %s | %.2f s | %s | %.2f | %s | %s | %s | %.3f | %.0f %% | %.0f %% |\n", r.name, r.target, r.elapsed.Seconds(), better,
			r.cpu.Seconds()/r.amount*1e9, cheaper, short(r.first), mib(r.peak), r.egress, 100*r.spread, 100*r.others)
	})
}

func writeMemory(w io.Writer, all []row) {
	writeRows(w, all, []unit{resident}, "| scenario | server | resident | ratio | most meanwhile |", func(r, base row, ok bool) {
		better := ""
		if ok {
			better = twoDigits(r.better(base))
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", r.name, r.target, mib(r.memory), better, mib(r.peak))
	})
}

// writeRows writes a table of the rows of some units, if there are any.
func writeRows(w io.Writer, all []row, units []unit, head string, write func(r, base row, ok bool)) {
	rows := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return !slices.Contains(units, r.unit) })
	if len(rows) == 0 {
		return
	}
	columns := strings.Count(head, "|") - 1
	fmt.Fprintf(w, "\n%s\n%s\n", head, strings.Repeat("|---", columns)+"|")
	for _, r := range rows {
		if r.failed != "" {
			line, _, _ := strings.Cut(r.failed, "\n")
			fmt.Fprintf(w, "| %s | %s | failed: %s |%s\n", r.name, r.target, strings.ReplaceAll(line, "|", "/"), strings.Repeat(" |", columns-3))
			continue
		}
		base, ok := compared(all, r)
		write(r, base, ok)
	}
}

// rate writes a rate in the unit's words.
func (u unit) rate(v float64) string {
	switch {
	case u == content:
		return fmt.Sprintf("%.2f GB/s", v/1e9)
	case v >= 10_000:
		return fmt.Sprintf("%.1fk/s", v/1e3)
	}
	return fmt.Sprintf("%.0f/s", v)
}

func twoDigits(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return fmt.Sprintf("%.2f", v)
}

func nonzero(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", v)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// short writes a duration with three digits, or nothing for none.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// brief is a figure in a line of progress.
func (f figure) brief(u unit) string {
	switch {
	case f.Failed != "":
		return "failed: " + f.Failed
	case u == seconds:
		return fmt.Sprintf("%.2f s, %.2f s of CPU, egress %.3f, others %.0f %%", f.Elapsed.Seconds(), f.CPU.Seconds(), f.Egress, 100*f.Others)
	case u == resident:
		return mib(f.Memory)
	}
	return fmt.Sprintf("%s, %s per CPU second, p99 %s, others %.0f %%", u.rate(f.rate()), u.rate(f.perCPU()), short(f.P99), 100*f.Others)
}
