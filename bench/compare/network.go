package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// machine is the network as it is here.
	machine = "machine"
	// cubic is a network namespace whose congestion control is Linux's usual one. On loopback it costs the sender half of what
	// BBR costs, which paces each connection with a timer.
	cubic = "cubic"

	congestionControl = "/proc/sys/net/ipv4/tcp_congestion_control"
	// startScenario is the name of what bench/start measures, for -only.
	startScenario = "start with many blobs"
)

// networks lists the networks that passes run under: the machine's own, and cubic where that is another.
func networks() []string {
	if congestion() == cubic {
		return []string{machine}
	}
	return []string{machine, cubic}
}

// congestion returns the congestion control of this process's network.
func congestion() string {
	text, err := os.ReadFile(congestionControl)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// enterNetwork sets up the namespace that this process was started in.
func enterNetwork(ctx context.Context, network string) error {
	// More threads than the one core that this process is held to: one waits in the kernel for clients while others serve.
	runtime.GOMAXPROCS(4)
	if network == machine {
		return nil
	}
	// The setting of the whole namespace takes only what the machine allows to everybody; a route takes what there is.
	for _, words := range [][]string{
		{"link", "set", "lo", "up"},
		{"route", "change", "local", "127.0.0.0/8", "dev", "lo", "scope", "host", "table", "local", "congctl", network},
		{"route", "change", "local", "127.0.0.1", "dev", "lo", "scope", "host", "table", "local", "congctl", network},
	} {
		if out, err := exec.CommandContext(ctx, "ip", words...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(words, " "), err, out)
		}
	}
	return nil
}

// child runs a pass in a process of its own, on the core of the clients, and returns the figures that it has written,
// those before an error included.
func (o options) child(ctx context.Context, network string) (figures []figure, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	words := []string{"taskset", "-c", strconv.Itoa(o.clientCore), self, "-network", network, "-scratch", o.scratch, "-program", o.program,
		"-fixture", o.fixture, "-rounds", strconv.Itoa(o.rounds), "-turn", o.turn.String(), "-only", o.only.String(), "-targets", o.take.String(),
		"-server-core", strconv.Itoa(o.serverCore), "-profile", o.profile(), "-pprof", o.pprof, "-other", o.other, "-anew=" + strconv.FormatBool(o.anew)}
	if network != machine {
		words = append([]string{"unshare", "--net"}, words...)
	}
	pass := exec.CommandContext(ctx, words[0], words[1:]...)
	pass.Cancel = func() error { return pass.Process.Signal(syscall.SIGTERM) } // it stops its servers first
	pass.WaitDelay = time.Minute
	pass.Stderr = os.Stderr
	out, err := pass.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := pass.Start(); err != nil {
		return nil, err
	}
	figures, err = readFigures(bufio.NewReader(out))
	return figures, errors.Join(err, pass.Wait())
}

func readFigures(in *bufio.Reader) (figures []figure, err error) {
	for decoder := json.NewDecoder(in); decoder.More(); {
		var f figure
		if err := decoder.Decode(&f); err != nil {
			return figures, fmt.Errorf("read figures: %w", err)
		}
		figures = append(figures, f)
	}
	return figures, nil
}

func (o options) profile() string {
	if o.full {
		return "full"
	}
	return "short"
}

// checkTools reports what is missing to measure anything.
func (o options) checkTools() error {
	if runtime.GOOS != "linux" || runtime.NumCPU() < 2 {
		return fmt.Errorf("this needs Linux and two cores, not %s and %d: the servers have one to themselves", runtime.GOOS, runtime.NumCPU())
	}
	var missing []string
	for _, tool := range []string{"taskset", "unshare", "ip", "wrk", "nginx", "varnishd", "docker-registry"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing programs: %s: run bench/install as root", strings.Join(missing, ", "))
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root, for a network namespace with another congestion control")
	}
	return nil
}

// build builds the mirror, unless one is named.
func (o *options) build(ctx context.Context) error {
	if o.program != "" {
		return nil
	}
	o.program = o.scratch + "/mirror"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.program, "./cmd/mirror")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build mirror (run this in the root of the repository): %w\n%s", err, out)
	}
	return nil
}

// starts runs bench/start and returns its table.
func (o options) starts(ctx context.Context) (string, error) {
	run := exec.CommandContext(ctx, "go", "run", "./bench/start", "-blobs", strconv.Itoa(o.blobs))
	run.Stderr = os.Stderr
	out, err := run.Output()
	if err != nil {
		return "", fmt.Errorf("measure starts: %w", err)
	}
	return string(out), nil
}
