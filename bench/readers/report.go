package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// compare starts the three processes, watches the server, and prints the figures.
func compare(o options) (err error) {
	reg, err := newRegistry(o.size, o.rate)
	if err != nil {
		return fmt.Errorf("start registry: %w", err)
	}
	defer reg.listener.Close()
	if o.dir, err = os.MkdirTemp("", "mirror-readers-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	server, err := begin("-role", "server", "-address", reg.listener.Addr().String(), "-dir", o.dir, "-size", strconv.FormatInt(o.size, 10), "-profile", o.trace)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer func() { err = errors.Join(err, server.end()) }()
	address, err := server.line()
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	return watch(o, reg, server, address)
}

// watch lets the clients read, and the layer go once all of them wait for it.
func watch(o options, reg *registry, server *process, address string) error {
	idle, err := server.usage()
	if err != nil {
		return err
	}
	clients, err := begin("-role", "clients", "-address", address, "-digest", reg.digest.String(),
		"-size", strconv.FormatInt(o.size, 10), "-readers", strconv.Itoa(o.readers))
	if err != nil {
		return fmt.Errorf("start clients: %w", err)
	}
	if _, err := clients.line(); err != nil {
		return errors.Join(fmt.Errorf("connect clients: %w", err), clients.end())
	}
	time.Sleep(time.Second) // the last requests are on their way
	waiting, err := server.usage()
	if err != nil {
		return err
	}
	close(reg.open)
	start := time.Now()
	peak, err := server.peakUntil(clients)
	if err != nil {
		return err
	}
	took := time.Since(start)
	if err := clients.end(); err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	after, err := server.usage()
	if err != nil {
		return err
	}
	printf := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	mib := func(n int64) int64 { return n >> 20 }
	delivered := float64(o.size) * float64(o.readers)
	cpu := after.cpu - waiting.cpu
	printf("%d readers of one layer of %d MiB, which arrives at %.1f MiB/s", o.readers, mib(o.size), float64(o.rate)/(1<<20))
	printf("resident, idle:               %4d MiB", mib(idle.resident))
	printf("resident, all readers wait:   %4d MiB, %d MiB beyond idle", mib(waiting.resident), mib(waiting.resident-idle.resident))
	printf("resident, most while sending: %4d MiB, %d MiB beyond idle", mib(peak.resident), mib(peak.resident-idle.resident))
	printf("descriptors, most:            %d", peak.files)
	printf("asked of the upstream:        %d bytes in %d requests, %.3f of the layer", reg.sent.Load(), reg.requests.Load(), float64(reg.sent.Load())/float64(o.size))
	printf("time:                         %.1f s; the upstream alone needs %.1f s", took.Seconds(), float64(o.size)/float64(o.rate))
	printf("sent:                         %.2f GB/s, %.2f GB for each CPU second of the server (%.1f s)", delivered/1e9/took.Seconds(), delivered/1e9/cpu.Seconds(), cpu.Seconds())
	return nil
}

// process is a part of the measurement that runs by itself.
type process struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	lines   *bufio.Scanner
}

// begin starts this program once more.
func begin(args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{command: exec.CommandContext(context.Background(), self, args...)}
	p.command.Stderr = os.Stderr
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.lines = bufio.NewScanner(stdout)
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	return p, p.command.Start()
}

// line waits for the next line that the process prints.
func (p *process) line() (string, error) {
	if p.lines.Scan() {
		return p.lines.Text(), nil
	}
	return "", errors.Join(p.lines.Err(), io.ErrUnexpectedEOF)
}

// end lets the process end by itself.
func (p *process) end() error {
	_ = p.stdin.Close() // it may have gone already
	return p.command.Wait()
}

// usage is what a process takes.
type usage struct {
	resident int64 // bytes
	cpu      time.Duration
	files    int // open descriptors
}

func (p *process) usage() (u usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.command.Process.Pid))
	if u.resident, err = resident(filepath.Join(dir, "status")); err != nil {
		return u, err
	}
	if u.cpu, err = cpuTime(filepath.Join(dir, "stat")); err != nil {
		return u, err
	}
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	u.files = len(files)
	return u, err
}

// peakUntil returns the most that p takes until the other process prints a line or ends.
func (p *process) peakUntil(other *process) (most usage, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = other.line() // why there is none shows when it ends
	}()
	for {
		select {
		case <-done:
			return most, nil
		case <-time.After(100 * time.Millisecond):
		}
		now, err := p.usage()
		if err != nil {
			return most, err
		}
		most.resident, most.files = max(most.resident, now.resident), max(most.files, now.files)
	}
}

// resident reads how much memory a process has, the files included that it has mapped.
func resident(path string) (int64, error) {
	status, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no VmRSS", path)
}

// cpuTime reads the time that a process has used; the kernel counts in hundredths of a second.
func cpuTime(path string) (time.Duration, error) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // behind the name, which may hold anything
	fields := strings.Fields(rest)
	user, err := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, err2)
}
