package node

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// wantedFiles is how many descriptors a node asks for: 16,384 client connections, as many open blobs, and as much again
// for upstreams, parts of fills and the rest.
const wantedFiles = 1 << 16

// raiseFileLimit asks for wantedFiles descriptors. Being refused stops nothing: a small site never needs them, and the
// log says what there is.
func (n *Node) raiseFileLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= wantedFiles {
		return nil
	}
	raised := unix.Rlimit{Cur: wantedFiles, Max: max(limit.Max, wantedFiles)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil {
		return nil
	}
	raised = unix.Rlimit{Cur: min(limit.Max, wantedFiles), Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		raised = limit
	}
	n.log.Warn(fmt.Sprintf("only %d file descriptors, want %d: raise the limit (ulimit -n, LimitNOFILE=) before serving many clients", raised.Cur, wantedFiles))
	return nil
}
