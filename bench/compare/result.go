package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// report is the result file: what was measured, on what, and how.
type report struct {
	Revision string // of the repository; with "-dirty" when files were changed
	Begun    time.Time
	Machine  machineInfo
	Versions map[string]string // what the programs say of themselves
	Settings settings
	// LoadBefore and LoadAfter are /proc/loadavg: what else the machine had to do.
	LoadBefore, LoadAfter string
	Figures               []figure
	Start                 string // the table of bench/start
}

type machineInfo struct {
	Processor  string
	Cores      int
	MemoryKiB  int64
	Kernel     string
	Congestion string
}

type settings struct {
	Profile     string
	Rounds      int
	Turn        time.Duration
	Connections int
	ServerCore  int
	ClientCore  int
	Cache       string
	Cipher      string
}

func newReport(ctx context.Context, o options) (*report, error) {
	r := &report{Begun: time.Now().UTC(), Revision: revision(ctx), LoadBefore: load(), Versions: versions(ctx), Machine: describeMachine()}
	r.Settings = settings{o.profile(), o.rounds, o.turn, connections, o.serverCore, o.clientCore, roomy.String(), "TLS_AES_128_GCM_SHA256"}
	return r, nil
}

func describeMachine() machineInfo {
	cpu, _ := os.ReadFile("/proc/cpuinfo") // what cannot be read is not told
	memory, _ := os.ReadFile("/proc/meminfo")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m := machineInfo{Cores: runtime.NumCPU(), Kernel: strings.TrimSpace(string(kernel)), Congestion: congestion(), MemoryKiB: kibOf(string(memory), "MemTotal:")}
	if found := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(cpu); found != nil {
		m.Processor = string(found[1])
	}
	return m
}

func load() string {
	text, _ := os.ReadFile("/proc/loadavg") // what cannot be read is not told
	return strings.TrimSpace(string(text))
}

func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// versions asks the programs. What they print stands in the first line.
func versions(ctx context.Context) map[string]string {
	all := make(map[string]string)
	for name, words := range map[string][]string{
		"go": {"go", "version"}, "nginx": {"nginx", "-v"}, "varnish": {"varnishd", "-V"}, "docker-registry": {"docker-registry", "--version"}, "wrk": {"wrk", "-v"},
	} {
		out, _ := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput() // wrk says its version and fails
		line, _, _ := strings.Cut(string(out), "\n")
		all[name] = strings.TrimSpace(line)
	}
	return all
}

// write writes result.json, table.md and ratios.svg to dir.
func (r *report) write(dir string) error {
	r.LoadAfter = load()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	var table, plot bytes.Buffer
	r.writeTables(&table)
	r.writePlot(&plot)
	return errors.Join(
		writeFile(dir, "result.json", append(text, '\n')), writeFile(dir, "table.md", table.Bytes()), writeFile(dir, "ratios.svg", plot.Bytes()))
}

func writeFile(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	fmt.Println("wrote", path)
	return nil
}
