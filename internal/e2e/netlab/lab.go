//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Link is the way to the registry. Rates are in bits per second, zero is no bound.
type Link struct {
	Latency time.Duration // before each answer
	// Rate is that of all connections together, EachConnection of one.
	Rate, EachConnection int64
}

// Plan says what a lab is made of.
type Plan struct {
	Dir     string // for the program, the caches and the logs; it is not removed
	Program string // the mirror; empty builds it in Dir
	Nodes   int
	Rate    int64 // of each node's link, both ways, in bits per second
	Link    Link
	// Zones are given to the nodes in turn, in blocks as equal as can be. None is one place for all.
	Zones []Zone
	// Configure may change the configuration of a node, which counts from 0, before it is written.
	Configure func(node int, c *Settings)
}

// Standard is the plan of the measurements: 100 Mbit/s for everybody, 25 Mbit/s for each connection to the registry, which takes
// 80 ms to answer.
func Standard(dir string, nodes int) Plan {
	const mbit = 1_000_000
	return Plan{
		Dir: dir, Nodes: nodes, Rate: 100 * mbit,
		Link: Link{Latency: 80 * time.Millisecond, Rate: 100 * mbit, EachConnection: 25 * mbit},
	}
}

const (
	upstream        namespace = prefix + "up"
	upstreamHost              = "10.77.1.1"
	upstreamAddress           = upstreamHost + ":5000"
	// patience is how long the lab waits for processes to do what they always do.
	patience = 60 * time.Second
	// meetPatience is how long it waits for members to know each other. One in some hundreds misses all the messages about another, and
	// learns of it when two members compare all that they know, which each begins once a minute.
	meetPatience = 3 * time.Minute
)

// Lab is a fleet and its registry. Its methods are called by one goroutine, those of its nodes by any.
type Lab struct {
	Registry *Registry
	Nodes    []*Node

	plan    Plan
	lock    *os.File
	restore func() error // what the lab has changed of the machine
}

// New builds the network and starts the registry. The nodes are not running yet. Close it also after an error.
func New(plan Plan) (*Lab, error) {
	l := &Lab{plan: plan, Registry: newRegistry(plan.Link)}
	if os.Getuid() != 0 {
		return l, errors.New("the lab needs root, for its namespaces")
	}
	if err := l.occupy(); err != nil {
		return l, err
	}
	if err := l.build(); err != nil {
		return l, err
	}
	var err error
	if l.restore, err = widenNeighbours(plan.Nodes + 2); err != nil {
		return l, err
	}
	if err := wiring(plan.Zones); err != nil {
		return l, err
	}
	if err := l.connect(); err != nil {
		return l, err
	}
	return l, l.Registry.Start()
}

// occupy waits until no other lab is at work, and removes what an earlier one has left.
func (l *Lab) occupy() (err error) {
	if l.lock, err = os.OpenFile("/run/"+prefix+"lab.lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("wait for the other lab: %w", err)
	}
	return clear()
}

func clear() error {
	left, err := leftovers()
	if err != nil {
		return err
	}
	for _, n := range left {
		err = errors.Join(err, n.remove())
	}
	return err
}

// build builds the program.
func (l *Lab) build() error {
	if l.plan.Program != "" {
		return nil
	}
	root, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	l.plan.Program = filepath.Join(l.plan.Dir, "mirror")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", l.plan.Program, "./cmd/mirror")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the mirror: %w: %s", err, out)
	}
	return nil
}

// connect plugs the registry and the nodes in.
func (l *Lab) connect() error {
	if err := upstream.create(); err != nil {
		return err
	}
	if err := plug(upstream, "core", upstreamHost, max(l.plan.Link.Rate, l.plan.Rate)); err != nil {
		return err
	}
	for i := range l.plan.Nodes {
		n, err := l.newNode(i)
		if err != nil {
			return err
		}
		l.Nodes = append(l.Nodes, n)
	}
	return nil
}

// zoneOf returns the number of a node's zone, -1 when there are none.
func (l *Lab) zoneOf(node int) int {
	if len(l.plan.Zones) == 0 {
		return -1
	}
	return node * len(l.plan.Zones) / l.plan.Nodes
}

// Start starts all nodes that are not running, and waits until each knows all.
func (l *Lab) Start() error {
	for _, n := range l.Nodes {
		if !n.running() {
			if err := n.Start(); err != nil {
				return err
			}
		}
	}
	if l.Nodes[0].settings.SecretFile == "" {
		return nil // nobody meets anybody
	}
	return l.Meet(len(l.Nodes))
}

// Meet waits until every running node knows so many members.
func (l *Lab) Meet(members int) error {
	for _, n := range l.Nodes {
		if !n.running() {
			continue
		}
		if err := n.knows(members); err != nil {
			return err
		}
	}
	return nil
}

// Into returns the bytes that went into a zone over its link so far, headers included.
func (l *Lab) Into(zone int) (int64, error) { return sentBy(intoZone(zone)) }

// Close ends all processes and removes the network.
func (l *Lab) Close() error {
	if l.lock == nil {
		return nil
	}
	var err error
	if l.restore != nil {
		err = l.restore()
	}
	for _, n := range l.Nodes {
		n.Kill()
		n.client.CloseIdleConnections()
	}
	return errors.Join(err, l.Registry.Stop(), clear(), l.lock.Close())
}
