//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// offline keeps clients from the internet. They fall back to the public registry when a mirror disappoints them; through
// a proxy that nobody runs that fallback fails at once, and with it the test.
var offline = []string{
	"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1,localhost",
}

// program is a running process, the first of a group of its own, so that its children end with it.
type program struct {
	name   string
	cmd    *exec.Cmd
	log    string // file that takes its output
	exited chan struct{}
}

// launch starts a program that is meant to stay. Its output goes to a file in dir. The kernel asks it to end when the
// test process dies without a chance to clean up.
func launch(dir string, env []string, argv ...string) (*program, error) {
	name := filepath.Base(argv[0])
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("create log of %s: %w", name, err)
	}
	defer log.Close()
	p := &program{name: name, cmd: exec.Command(argv[0], argv[1:]...), log: log.Name(), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // The exit code is read from ProcessState by those who care.
	}()
	return p, nil
}

// start launches a program for the length of a test and prints the end of its output when the test fails.
func start(t *testing.T, dir string, env []string, argv ...string) *program {
	t.Helper()
	p, err := launch(dir, env, argv...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("last output of %s:\n%s", p.name, p.tail(80))
		}
	})
	return p
}

// signal sends a signal to the first process of the group only, as a service manager does.
func (p *program) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// wait returns the exit code, or false when the program still runs after the time given. A killed program has code -1.
func (p *program) wait(limit time.Duration) (int, bool) {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode(), true
	case <-time.After(limit):
		return 0, false
	}
}

// stop asks the program to end, and after twenty seconds ends it and everything in its group.
func (p *program) stop() {
	p.signal(syscall.SIGTERM)
	if _, ended := p.wait(20 * time.Second); !ended {
		p.kill()
	}
	// Children that outlived their parent would hold directories that are about to be removed.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}

// kill ends the program as a power failure would: it gets no chance to do anything.
func (p *program) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// output returns everything the program has written so far.
func (p *program) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (p *program) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(p.output()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// run runs a command to its end and returns its standard output. It fails the test when the command does.
func run(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	out, err := try(t.Context(), env, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs a command for at most three minutes. The error of a failed one holds all that it wrote.
func try(ctx context.Context, env []string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s: %w\n%s%s", strings.Join(argv, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// exitCode runs a command that is expected to end by itself, and returns its code and everything it wrote.
func exitCode(t *testing.T, argv ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", strings.Join(argv, " "), err)
	}
	if exit != nil {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}
