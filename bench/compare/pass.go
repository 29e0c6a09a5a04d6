package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"time"

	"mirror/internal/units"
)

const (
	// roomy is a cache that holds every fixture.
	roomy = 4 * units.GiB
	// disturbed is the share of the server's core that others may have before a measurement is made again, and tries how
	// often it is made at most.
	disturbed = 0.1
	tries     = 3
	// A measurement waits until the core is quiet for one look, but not for long: some machines never are.
	look      = 100 * time.Millisecond
	quietness = 0.15
	calmsDown = 5 * time.Second
	// patience is how long a pass waits for quiet and measures again in all, for each round. When it is used up, the rest is
	// measured as it comes, and the column "others" tells.
	patience = 30 * time.Second
	// within bounds one measurement with the start of its server.
	within = 3 * time.Minute
)

// pass measures everything under one network, and writes a line of JSON for each figure.
type pass struct {
	options
	*stand
	out *json.Encoder
	log io.Writer
	// waited is how much of the patience is used up.
	waited time.Duration
}

// patient reports whether there is time to wait, or to measure again.
func (p *pass) patient() bool { return p.waited < time.Duration(p.rounds)*patience }

// run measures what is hot on servers that stay, and then what needs a server of its own.
func (p *pass) run(ctx context.Context) error {
	for _, secure := range []bool{false, true} {
		if err := p.runHot(ctx, secure); err != nil {
			return err
		}
	}
	alone := p.chosen(func(c scenario) bool { return c.alone })
	for round := range p.rounds {
		for _, c := range alone {
			for _, t := range shuffled(p.targets(), c.name, round) {
				if c.takes(t) {
					if err := p.runAlone(ctx, c, t, round); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// chosen lists the scenarios of this pass that keep says yes to.
func (p *pass) chosen(keep func(scenario) bool) []scenario {
	return slices.DeleteFunc(scenarios(), func(c scenario) bool {
		return !keep(c) || c.full && !p.full || !p.only.MatchString(c.name) || p.network != machine && !c.everywhere
	})
}

// shuffled has the targets in another order in each round of each scenario: what one leaves in memory and in the processor's caches costs
// the next one some percent, so none may always come after the same one.
func shuffled(all []target, scenario string, round int) []target {
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, scenario) // a hash never returns an error
	order := slices.Clone(all)
	rand.New(rand.NewPCG(hash.Sum64(), uint64(round))).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return order
}

// runHot measures all scenarios of one kind, on servers that hold everything.
func (p *pass) runHot(ctx context.Context, secure bool) error {
	hot := p.chosen(func(c scenario) bool { return !c.alone && c.secure == secure })
	if len(hot) == 0 {
		return nil
	}
	if !p.anew {
		return p.runRounds(ctx, secure, hot, 0, p.rounds)
	}
	for round := range p.rounds {
		if err := p.runRounds(ctx, secure, hot, round, round+1); err != nil {
			return err
		}
	}
	return nil
}

// runRounds measures the rounds [first, end) of hot scenarios on one set of servers.
func (p *pass) runRounds(ctx context.Context, secure bool, hot []scenario, first, end int) (err error) {
	servers, err := p.startAll(ctx, secure)
	defer func() {
		for _, v := range servers {
			err = errors.Join(err, v.stop())
		}
	}()
	if err != nil {
		return err
	}
	for round := first; round < end; round++ {
		for _, c := range hot {
			for _, t := range shuffled(p.targets(), c.name, round) {
				if v := servers[t.name]; v != nil && c.takes(t) {
					if err := p.measure(ctx, c, v, round); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// startAll starts every target that can do it and has it hold what is asked for.
func (p *pass) startAll(ctx context.Context, secure bool) (map[string]*server, error) {
	servers := make(map[string]*server)
	for _, t := range p.targets() {
		if secure && !t.secure {
			continue
		}
		v, err := p.start(ctx, t, p.place(secure, roomy))
		if err != nil {
			return servers, err
		}
		servers[t.name] = v
		if err := p.warm(ctx, v, secure); err != nil {
			return servers, err
		}
	}
	return servers, errors.Join(settle(ctx), readBack(p.stand.fixture), readBack(p.stand.scratch))
}

// warm has a server hold what it will be asked for. Nobody asks for the longest layer through TLS.
func (p *pass) warm(ctx context.Context, v *server, secure bool) error {
	err := errors.Join(v.pull(ctx, p.image("tiny"), 2), v.pull(ctx, p.image("middle"), 1))
	if secure || err != nil {
		return err
	}
	return v.pull(ctx, p.image("large"), 1)
}

// settle has the kernel write what waits, so that it does not do it while something is measured.
func settle(ctx context.Context) error {
	return exec.CommandContext(ctx, "sync").Run()
}

// measure makes one measurement, again when others had the core meanwhile, and writes what it shows.
func (p *pass) measure(ctx context.Context, c scenario, v *server, round int) error {
	var best figure
	for try := range tries {
		p.awaitQuiet(ctx)
		quiet := time.Now()
		stop := p.profileOf(ctx, c, v)
		f, err := p.once(ctx, c, v)
		stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			f = figure{Failed: err.Error()}
		}
		if try == 0 || f.Failed == "" && f.Others < best.Others {
			best = f
		}
		if try > 0 {
			p.waited += time.Since(quiet)
		}
		if c.alone || best.Failed != "" || best.Others <= disturbed || !p.patient() {
			break
		}
	}
	return p.write(best, c, v.target, round)
}

// awaitQuiet waits until nobody uses the core of the servers, none of which has anything to do now.
func (p *pass) awaitQuiet(ctx context.Context) {
	begun := time.Now()
	defer func() { p.waited += time.Since(begun) }()
	for p.patient() && time.Since(begun) < calmsDown && ctx.Err() == nil {
		before, err := busy(p.stand.serverCore)
		time.Sleep(look)
		after, err2 := busy(p.stand.serverCore)
		if err != nil || err2 != nil || (after-before).Seconds() <= quietness*look.Seconds() {
			return // what cannot be read shows in the figures
		}
	}
}

func (p *pass) once(ctx context.Context, c scenario, v *server) (figure, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return c.run(ctx, p.stand, v)
}

func (p *pass) write(f figure, c scenario, t target, round int) error {
	f.Scenario, f.Target, f.Network, f.Round = c.name, t.name, p.network, round
	fmt.Fprintf(p.log, "%s round %d: %s, %s: %s\n", p.network, round+1, c.name, t.name, f.brief(c.unit))
	return p.out.Encode(f)
}

// runAlone measures one scenario on a server of its own.
func (p *pass) runAlone(ctx context.Context, c scenario, t target, round int) error {
	cache := roomy
	if c.limitMiB > 0 {
		cache = units.Bytes(c.limitMiB) * units.MiB
	}
	v, err := p.start(ctx, t, p.place(c.secure, cache))
	if err != nil {
		return err
	}
	err = settle(ctx)
	if err == nil {
		err = p.measure(ctx, c, v, round)
	}
	return errors.Join(err, v.stop())
}
