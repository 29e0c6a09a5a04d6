//go:build linux

package netlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// prefix begins the names of all namespaces of a lab.
const prefix = "mir-"

// namespace is a network of its own, by its name.
type namespace string

// create makes the namespace, with a loopback interface.
func (n namespace) create() error {
	if err := command("ip", "netns", "add", string(n)); err != nil {
		return err
	}
	return n.run("ip", "link", "set", "lo", "up")
}

// run runs a command in the namespace.
func (n namespace) run(args ...string) error {
	return command("ip", append([]string{"netns", "exec", string(n)}, args...)...)
}

// command runs a command. What it prints is told in the error.
func command(name string, args ...string) error {
	out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// inside calls f on a thread that is in the namespace. Sockets that f opens stay there, wherever they are used.
func (n namespace) inside(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := enter("/run/netns/" + string(n)); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leave namespace %s: %w", n, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func enter(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return nil
}

// leftovers lists the namespaces of labs.
func leftovers() ([]namespace, error) {
	out, err := exec.CommandContext(context.Background(), "ip", "netns", "list").Output()
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w: install iproute2", err)
	}
	var found []namespace
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, prefix) {
			found = append(found, namespace(name))
		}
	}
	return found, nil
}

// remove ends what runs in a namespace, and deletes it. Only labs have put anything there.
func (n namespace) remove() error {
	out, err := exec.CommandContext(context.Background(), "ip", "netns", "pids", string(n)).Output()
	if err != nil {
		return fmt.Errorf("list processes of %s: %w", n, err)
	}
	for _, pid := range strings.Fields(string(out)) {
		_ = command("kill", "-KILL", pid) // it may have ended by itself
	}
	return command("ip", "netns", "del", string(n))
}
