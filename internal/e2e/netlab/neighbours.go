//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// neighbourLimits are the bounds of the kernel's table of addresses on the same network, which all namespaces share: by
// default 1,024 entries at most, and fifty nodes that know each other have 2,450. Beyond it packets are lost.
var neighbourLimits = []string{"gc_thresh3", "gc_thresh2", "gc_thresh1"} // the largest first, as they must not cross

const neighbourDir = "/proc/sys/net/ipv4/neigh/default/"

// widenNeighbours makes room in that table for all nodes, and returns what puts the old bounds back. Fewer nodes than that fit need
// nothing.
func widenNeighbours(nodes int) (restore func() error, err error) {
	need := 4 * nodes * nodes
	var undo []func() error
	restore = func() error {
		var errs []error
		for _, f := range undo {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	for _, name := range neighbourLimits {
		old, err := os.ReadFile(neighbourDir + name)
		if err != nil {
			return restore, err
		}
		limit, err := strconv.Atoi(strings.TrimSpace(string(old)))
		if err != nil {
			return restore, fmt.Errorf("read %s: %w", name, err)
		}
		if limit >= need {
			continue
		}
		if err := os.WriteFile(neighbourDir+name, []byte(strconv.Itoa(need)), 0o644); err != nil {
			return restore, err
		}
		undo = append([]func() error{func() error { return os.WriteFile(neighbourDir+name, old, 0o644) }}, undo...)
	}
	return restore, nil
}
