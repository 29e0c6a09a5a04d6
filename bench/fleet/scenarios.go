package main

import (
	"context"
	"math/rand/v2"
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
	run  pull
}

// pull lets nodes pull a layer, while something happens that dice decide.
type pull func(context.Context, *netlab.Lab, netlab.Layer, *rand.Rand) netlab.Pulled

func everybody(ctx context.Context, lab *netlab.Lab, layer netlab.Layer, _ *rand.Rand) netlab.Pulled {
	return netlab.PullAll(ctx, lab.Nodes, layer, spread)
}

// without switches peers off.
func without(plan *netlab.Plan) {
	plan.Configure = func(_ int, s *netlab.Settings) { s.SecretFile = "" }
}

// losing lets everybody pull, and does something to the last nodes in the middle; the others count.
func losing(many int, what func(i int, n *netlab.Node)) pull {
	return func(ctx context.Context, lab *netlab.Lab, layer netlab.Layer, _ *rand.Rand) netlab.Pulled {
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

// slowed has a last node with a twentieth of the others' rate, which does not count.
func slowed(ctx context.Context, lab *netlab.Lab, layer netlab.Layer, _ *rand.Rand) netlab.Pulled {
	last := len(lab.Nodes) - 1
	if err := lab.Nodes[last].SetRate(5_000_000); err != nil {
		return netlab.Pulled{Errs: []error{err}}
	}
	return netlab.PullAll(ctx, lab.Nodes[:last], layer, spread)
}

// cut makes a share of all pairs of nodes deaf to each other in one direction, so that no two agree about who is dead.
func cut(share float64, then pull) pull {
	return func(ctx context.Context, lab *netlab.Lab, layer netlab.Layer, dice *rand.Rand) netlab.Pulled {
		for _, from := range lab.Nodes {
			for _, to := range lab.Nodes {
				if from == to || dice.Float64() >= share {
					continue
				}
				if err := to.DropTransfers(from); err != nil {
					return netlab.Pulled{Errs: []error{err}}
				}
			}
		}
		return then(ctx, lab, layer, dice)
	}
}

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
	}, run: everybody},
	{name: "slow, unknown", run: slowed},
	{name: "slow, published", plan: func(p *netlab.Plan) {
		p.Configure = func(i int, s *netlab.Settings) {
			if i == p.Nodes-1 {
				s.Upload = "1MiB"
			}
		}
	}, run: slowed},
	{name: "5 % of links cut", run: cut(0.05, everybody)},
	{name: "20 % of links cut", run: cut(0.2, everybody)},
	{name: "5 % of links cut, stopped", run: cut(0.05, losing(1, pause))},
	{name: "direct", plan: without, run: everybody},
}
