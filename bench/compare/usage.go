package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc: Linux shows hundredths of a second to programs, whatever it counts in.
const tick = 10 * time.Millisecond

// cpu returns the CPU time of the server's processes, those that have ended included.
func (v *server) cpu() (total time.Duration, err error) {
	for _, pid := range family(v.process.Process.Pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		ticks, err := ticksOf(string(text))
		if err != nil {
			return 0, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
		}
		total += time.Duration(ticks) * tick
	}
	return total, nil
}

// ticksOf adds utime, stime, cutime and cstime of a line of /proc/PID/stat. The name of the program may hold spaces.
func ticksOf(stat string) (sum int64, err error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, cstime = 11, 14
	if len(fields) <= cstime {
		return 0, fmt.Errorf("line has %d fields after the name", len(fields))
	}
	for _, field := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// family lists a process and all its descendants.
func family(pid int) []int {
	all := []int{pid}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return all // it has ended, and its parent has its times
	}
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(all, family(child)...)
		}
	}
	return all
}

// memory returns the bytes of all processes of the server that are resident, now and at most.
func (v *server) memory() (now, most int64) {
	for _, pid := range family(v.process.Process.Pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has ended
		}
		now += kibOf(string(text), "VmRSS:") << 10
		most += kibOf(string(text), "VmHWM:") << 10
	}
	return now, most
}

// forgetPeak has the kernel count the most that is resident from now on.
func (v *server) forgetPeak() {
	for _, pid := range family(v.process.Process.Pid) {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // else the figure is that of the whole run
	}
}

func kibOf(status, key string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err == nil {
				return kib
			}
		}
	}
	return 0
}

// busy returns how long a core has worked for anybody since the machine started.
func busy(core int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	prefix := fmt.Sprintf("cpu%d ", core)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return busyOf(strings.Fields(rest))
		}
	}
	return 0, fmt.Errorf("/proc/stat has no core %d", core)
}

// busyOf adds what is neither idle nor waiting: user, nice, system, irq, softirq and steal.
func busyOf(fields []string) (total time.Duration, err error) {
	for _, n := range []int{0, 1, 2, 5, 6, 7} {
		if n >= len(fields) {
			return 0, fmt.Errorf("/proc/stat has %d columns", len(fields))
		}
		ticks, err := strconv.ParseInt(fields[n], 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * tick
	}
	return total, nil
}
