//go:build e2e

package fleet_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mirror/internal/e2e/netlab"
)

// program is the mirror, built once. It is the package's one variable, because TestMain has no other way to hand it on.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fleet")
	if err == nil {
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "mirror")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", program, "mirror/cmd/mirror").CombinedOutput(); err != nil {
			err = fmt.Errorf("build the mirror: %w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		return 1
	}
	return m.Run()
}

const (
	mib = 1 << 20
	// spread is within what time pulls begin that begin together.
	spread = 200 * time.Millisecond
	// slack is how long a pull may take before it counts as hanging; the slowest of them takes a quarter of that.
	slack = 90 * time.Second
)

// fleet is a lab with a test.
type fleet struct {
	*netlab.Lab
	t *testing.T
}

// assemble builds a lab of some nodes, which are not started. change may alter its plan.
func assemble(t *testing.T, nodes int, change func(*netlab.Plan)) *fleet {
	t.Helper()
	plan := netlab.Standard(t.TempDir(), nodes)
	plan.Program = program
	if change != nil {
		change(&plan)
	}
	lab, err := netlab.New(plan)
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{lab, t}
	t.Cleanup(f.examine)
	return f
}

// start is assemble for nodes that run and know each other.
func start(t *testing.T, nodes int, change func(*netlab.Plan)) *fleet {
	t.Helper()
	f := assemble(t, nodes, change)
	f.must(f.Start())
	return f
}

// examine looks for what no log may hold.
func (f *fleet) examine() {
	for _, n := range f.Nodes {
		log := n.Log()
		for _, bad := range []string{"DATA RACE", "panic", "fatal error:"} {
			if strings.Contains(log, bad) {
				f.t.Errorf("%s wrote %q:\n%s", n.Name, bad, log)
			}
		}
		if f.t.Failed() {
			f.t.Logf("log of %s:\n%s", n.Name, log)
		}
	}
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// pull lets nodes pull a layer, and fails when one of them does not get it.
func (f *fleet) pull(nodes []*netlab.Node, layer netlab.Layer) netlab.Pulled {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), slack)
	defer cancel()
	p := netlab.PullAll(ctx, nodes, layer, spread)
	for _, err := range p.Errs {
		f.t.Error(err)
	}
	f.tell(layer, p)
	return p
}

// tell logs what pulls came to.
func (f *fleet) tell(layer netlab.Layer, p netlab.Pulled) {
	counts := f.Registry.Counts()
	f.t.Logf("%d nodes done after %v (half of them %v); the registry sent %.3f copies in %d requests", len(p.Times),
		p.Last().Round(time.Millisecond), p.Median().Round(time.Millisecond), f.copies(layer), counts.Blobs)
}

// copies is how often the registry has sent a layer, when it was asked for nothing else.
func (f *fleet) copies(layer netlab.Layer) float64 {
	return float64(f.Registry.Counts().Bytes) / float64(layer.Size)
}

// sentAtMost fails when the registry has sent more copies of a layer.
func (f *fleet) sentAtMost(layer netlab.Layer, most float64) {
	f.t.Helper()
	if got := f.copies(layer); got > most {
		f.t.Errorf("the registry sent %.3f copies, want at most %.3f", got, most)
	}
}

// sum adds up a metric of nodes.
func (f *fleet) sum(name string, nodes ...*netlab.Node) float64 {
	f.t.Helper()
	total := 0.0
	for _, n := range nodes {
		value, err := n.Metric(name)
		f.must(err)
		total += value
	}
	return total
}
