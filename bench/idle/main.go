package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/e2e/netlab"
	"mirror/internal/oci"
	"mirror/internal/units"
)

// options are what the command line says.
type options struct {
	nodes, blobs int
	settle, look time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.nodes, "nodes", 50, "how many members there are")
	flag.IntVar(&o.blobs, "blobs", 10_000, "how many blobs every second member holds")
	flag.DurationVar(&o.settle, "settle", 90*time.Second, "how long they are left alone before: new members ask more often")
	flag.DurationVar(&o.look, "time", 2*time.Minute, "how long they are looked at")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

func run(o options) (err error) {
	dir, err := os.MkdirTemp("", "idle")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lab, err := netlab.New(netlab.Standard(dir, o.nodes))
	defer func() { err = errors.Join(err, lab.Close()) }()
	if err != nil {
		return err
	}
	full, empty := split(lab.Nodes)
	for _, n := range full {
		if err := fill(n.CacheDir(), o.blobs); err != nil {
			return fmt.Errorf("fill the cache of %s: %w", n.Name, err)
		}
	}
	if err := lab.Start(); err != nil {
		return err
	}
	time.Sleep(o.settle)
	costs, err := measure(lab.Nodes, o.look)
	if err != nil {
		return err
	}
	fmt.Printf("%d members, looked at for %v\n\n", o.nodes, o.look)
	fmt.Println("| blobs | members | sent by each | by the busiest | received by each | of a core | of the busiest |")
	fmt.Println("|---|---|---|---|---|---|---|")
	fmt.Println(row(strconv.Itoa(o.blobs), full, costs))
	fmt.Println(row("none", empty, costs))
	return nil
}

// split returns every second member, and the others.
func split(nodes []*netlab.Node) (even, odd []*netlab.Node) {
	for i, n := range nodes {
		if i%2 == 0 {
			even = append(even, n)
		} else {
			odd = append(odd, n)
		}
	}
	return even, odd
}

// fill stores blobs of a few bytes in a cache that no process uses.
func fill(dir string, blobs int) (err error) {
	cfg := cache.Config{Dir: dir, MaxSize: units.GiB, Sync: cache.SyncLazy}
	c, err := cache.Open(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for i := range blobs {
		content := []byte("blob " + strconv.Itoa(i))
		if err := c.Put(oci.DigestOf(oci.SHA256, content), content); err != nil {
			return err
		}
	}
	return nil
}

// cost is what a member has used so far, or in a second.
type cost struct{ sent, received, cpu float64 }

func costOf(n *netlab.Node) (c cost, err error) {
	sent, received, err := n.Transferred()
	if err != nil {
		return cost{}, err
	}
	cpu, err := n.CPU()
	return cost{float64(sent), float64(received), cpu.Seconds()}, err
}

// measure returns what each member uses in a second.
func measure(nodes []*netlab.Node, look time.Duration) (map[*netlab.Node]cost, error) {
	before := map[*netlab.Node]cost{}
	costs := map[*netlab.Node]cost{}
	begin := time.Now()
	for _, n := range nodes {
		var err error
		if before[n], err = costOf(n); err != nil {
			return nil, err
		}
	}
	time.Sleep(look - time.Since(begin))
	for _, n := range nodes {
		c, err := costOf(n)
		if err != nil {
			return nil, err
		}
		b, seconds := before[n], look.Seconds()
		costs[n] = cost{(c.sent - b.sent) / seconds, (c.received - b.received) / seconds, (c.cpu - b.cpu) / seconds}
	}
	return costs, nil
}

// row is a line of the table.
func row(what string, nodes []*netlab.Node, costs map[*netlab.Node]cost) string {
	var sum cost
	for _, n := range nodes {
		c := costs[n]
		sum = cost{sum.sent + c.sent, sum.received + c.received, sum.cpu + c.cpu}
	}
	most := func(of func(cost) float64) float64 {
		busiest := slices.MaxFunc(nodes, func(a, b *netlab.Node) int { return cmp.Compare(of(costs[a]), of(costs[b])) })
		return of(costs[busiest])
	}
	many := float64(len(nodes))
	return fmt.Sprintf("| %s | %d | %.0f B/s | %.0f B/s | %.0f B/s | %.2f %% | %.2f %% |", what, len(nodes), sum.sent/many,
		most(func(c cost) float64 { return c.sent }), sum.received/many, 100*sum.cpu/many, 100*most(func(c cost) float64 { return c.cpu }))
}
