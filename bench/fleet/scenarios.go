package main

import (
	"context"
	"time"

	"mirror/internal/e2e/netlab"
)

const (
	// spread is within what time the pulls begin.
	spread = 200 * time.Millisecond
	// middle is when something happens to a node in the middle of a run.
	middle = 4 * time.Second
)

// scenario is one line of the table.
type scenario struct {
	name string
	plan func(*netlab.Plan)
	run  func(context.Context, *netlab.Lab, netlab.Layer) netlab.Pulled
}

func everybody(ctx context.Context, lab *netlab.Lab, layer netlab.Layer) netlab.Pulled {
	return netlab.PullAll(ctx, lab.Nodes, layer, spread)
}

// without switches peers off.
func without(plan *netlab.Plan) {
	plan.Configure = func(_ int, s *netlab.Settings) { s.SecretFile = "" }
}

// losing lets everybody pull, and does something to the last nodes in the middle; the others count.
func losing(many int, what func(i int, n *netlab.Node)) func(context.Context, *netlab.Lab, netlab.Layer) netlab.Pulled {
	return func(ctx context.Context, lab *netlab.Lab, layer netlab.Layer) netlab.Pulled {
		survivors, lost := lab.Nodes[:len(lab.Nodes)-many], lab.Nodes[len(lab.Nodes)-many:]
		others, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			netlab.PullAll(others, lost, layer, spread)
		}()
		timer := time.AfterFunc(middle, func() {
			for i, n := range lost {
				what(i, n)
			}
		})
		pulled := netlab.PullAll(ctx, survivors, layer, spread)
		timer.Stop()
		cancel()
		<-done
		return pulled
	}
}

func kill(_ int, n *netlab.Node) { n.Kill() }

func pause(_ int, n *netlab.Node) { n.Pause() }

// scenarios are the lines of the table.
var scenarios = []scenario{
	{name: "fleet", run: everybody},
	{name: "killed", run: losing(1, kill)},
	{name: "stopped", run: losing(1, pause)},
	{name: "3 killed, 1 stopped", run: losing(4, func(i int, n *netlab.Node) {
		if i == 0 {
			n.Pause()
		} else {
			n.Kill()
		}
	})},
	{name: "thin", plan: func(p *netlab.Plan) {
		p.Zones = []netlab.Zone{{Name: "a"}, {Name: "b", Rate: 25_000_000}}
		c := p.Configure
		p.Configure = func(i int, s *netlab.Settings) {
			if c != nil {
				c(i, s)
			}
			s.LogLevel = "debug"
		}
	}, run: everybody},
	{name: "direct", plan: without, run: everybody},
}
