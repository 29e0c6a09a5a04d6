package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"mirror/internal/e2e/netlab"
)

// options are what the command line says.
type options struct {
	nodes int
	size  int64
	dir   string
	keep  bool
	only  string
	seed  uint64
	times int
}

func main() {
	var o options
	flag.IntVar(&o.nodes, "nodes", 16, "how many nodes there are")
	flag.Int64Var(&o.size, "mib", 64, "size of the layer in MiB")
	flag.StringVar(&o.dir, "dir", "", "where caches and logs go (default: a new directory in the system's one for such)")
	flag.BoolVar(&o.keep, "keep", false, "keep that directory")
	flag.StringVar(&o.only, "scenario", "", "run only this one: "+strings.Join(names(), ", "))
	flag.Uint64Var(&o.seed, "seed", 1, "of what is left to chance; each run after the first adds one")
	flag.IntVar(&o.times, "times", 1, "how often each scenario is run")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func names() []string {
	var list []string
	for _, s := range scenarios {
		list = append(list, s.name)
	}
	return list
}

// run runs the scenarios one after the other, each in a lab of its own.
func run(o options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "fleet")
		if err != nil {
			return err
		}
		o.dir = dir
		if !o.keep {
			defer os.RemoveAll(dir)
		}
	}
	fmt.Printf("%d nodes, layer of %d MiB, directory %s\n\n", o.nodes, o.size, o.dir)
	fmt.Println("| run | pulled | all done | p50 | registry copies | requests | manifests | busiest uplink | all uplinks | redirects | took over | slow | dead | CPU |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range scenarios {
		if o.only != "" && o.only != s.name {
			continue
		}
		for i := range o.times {
			row, err := measure(o, s, o.seed+uint64(i))
			if err != nil {
				return fmt.Errorf("%s, seed %d: %w", s.name, o.seed+uint64(i), err)
			}
			fmt.Println(row)
		}
	}
	return nil
}

// measure runs one scenario.
func measure(o options, s scenario, seed uint64) (line string, err error) {
	dir, err := os.MkdirTemp(o.dir, s.name)
	if err != nil {
		return "", err
	}
	plan := netlab.Standard(dir, o.nodes)
	if s.plan != nil {
		s.plan(&plan)
	}
	lab, err := netlab.New(plan)
	defer func() { _ = lab.Close() }() // the next lab removes what is left
	if err != nil {
		return "", err
	}
	layer := lab.Registry.AddLayer("1", o.size<<20, 1)
	if err := lab.Start(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pulled := s.run(ctx, lab, layer, rand.New(rand.NewPCG(seed, 0)))
	for _, err := range pulled.Errs {
		fmt.Fprintln(os.Stderr, s.name+":", err)
	}
	return row(s.name, lab, layer, pulled), nil
}

// row is a line of the table.
func row(name string, lab *netlab.Lab, layer netlab.Layer, p netlab.Pulled) string {
	counts := lab.Registry.Counts()
	up := netlab.Uploads(lab.Nodes)
	copies := func(bytes float64) string { return fmt.Sprintf("%.3f", bytes/float64(layer.Size)) }
	return fmt.Sprintf("| %s | %d | %.1f s | %.1f s | %s | %d | %d | %s | %s | %.0f | %.0f | %.0f | %.0f | %.1f s |", name, len(p.Times), p.Last().Seconds(), p.Median().Seconds(),
		copies(float64(counts.Bytes)), counts.Blobs, counts.Manifests, copies(up.Most), copies(up.All), up.Redirects, up.Takeovers, up.Slow, up.Dead, up.CPU)
}
