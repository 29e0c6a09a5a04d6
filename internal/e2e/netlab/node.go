//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Settings are what the configurations of nodes differ in.
type Settings struct {
	Name, Zone string
	Address    string // of the node
	Join       []string
	SecretFile string // none disables peers
	ChunkSize  string
	Upload     string // peers.upload
	FreshFor   string // how long a tag is believed
	LogLevel   string
}

// yaml is the configuration as a user would write it.
func (s Settings) yaml(dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n  listen: \":5000\"\n  drain_timeout: 2s\nadmin:\n  listen: \":5001\"\n")
	fmt.Fprintf(&b, "cache:\n  dir: %q\n  max_size: 4GiB\nlog:\n  level: %s\n", dir, s.LogLevel)
	if s.SecretFile != "" {
		fmt.Fprintf(&b, "peers:\n  listen: %q\n  name: %s\n  zone: %q\n", s.Address+":7946", s.Name, s.Zone)
		fmt.Fprintf(&b, "  join: [%s]\n  secret_file: %q\n  chunk_size: %s\n  upload: %s\n", strings.Join(s.Join, ", "), s.SecretFile, s.ChunkSize, s.Upload)
	}
	fmt.Fprintf(&b, "upstreams:\n  - registry: %s\n    default: true\n    endpoints: [\"http://%s\"]\n", registryName, upstreamAddress)
	fmt.Fprintf(&b, "    tags: { fresh_for: %s, stale_for: 168h, missing_for: 1s }\n", s.FreshFor)
	return b.String()
}

// Node is a mirror in a namespace of its own.
type Node struct {
	Name string

	settings  Settings
	namespace namespace
	dir       string
	program   string
	client    *http.Client

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{} // closed when the process has
}

func (l *Lab) newNode(i int) (*Node, error) {
	name := fmt.Sprintf("n%d", i+1)
	n := &Node{Name: name, namespace: namespace(prefix + name), dir: filepath.Join(l.plan.Dir, name), program: l.plan.Program}
	n.client = clientIn(n.namespace)
	n.settings = Settings{
		Name: name, Address: AddressOf(i), Join: []string{AddressOf(0), AddressOf(1)}, ChunkSize: "1MiB", Upload: "0", FreshFor: "1m", LogLevel: "info",
		SecretFile: filepath.Join(l.plan.Dir, "secret"),
	}
	at := "core"
	if zone := l.zoneOf(i); zone >= 0 {
		n.settings.Zone = l.plan.Zones[zone].Name
		if l.plan.Zones[zone].Rate > 0 {
			at = zoneName(zone)
		}
	}
	if l.plan.Configure != nil {
		l.plan.Configure(i, &n.settings)
	}
	if err := n.prepare(); err != nil {
		return nil, err
	}
	if err := n.namespace.create(); err != nil {
		return nil, err
	}
	return n, plug(n.namespace, at, n.settings.Address, l.plan.Rate)
}

// AddressOf returns the address of a node.
func AddressOf(node int) string { return fmt.Sprintf("10.77.2.%d", node+1) }

// secretOfTheLab is the key of all nodes that are given no other one: 32 bytes.
const secretOfTheLab = "YSBrZXkgdGhhdCBvbmx5IGxhYnMgaGF2ZSwgMzIgYnk=\n"

// prepare writes the files of the node.
func (n *Node) prepare() error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	if n.settings.SecretFile != "" {
		if _, err := os.Stat(n.settings.SecretFile); errors.Is(err, os.ErrNotExist) {
			if err := os.WriteFile(n.settings.SecretFile, []byte(secretOfTheLab), 0o600); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(n.configFile(), []byte(n.settings.yaml(n.CacheDir())), 0o600)
}

func (n *Node) configFile() string { return filepath.Join(n.dir, "mirror.yaml") }

func (n *Node) logFile() string { return filepath.Join(n.dir, "log") }

// Start starts the process and waits until it is ready.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.CommandContext(context.Background(), "ip", "netns", "exec", string(n.namespace), n.program, "serve", "--config", n.configFile())
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = process.Wait() // how it ends is seen by those who use it
		close(ended)
	}()
	n.mu.Lock()
	n.process, n.ended = process, ended
	n.mu.Unlock()
	return n.ready()
}

// running reports whether the process was started and not ended on purpose.
func (n *Node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process != nil
}

// signal sends a signal to the process, if there is one.
func (n *Node) signal(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		_ = n.process.Process.Signal(s) // it may have ended by itself
	}
}

// Pause stops the process as a machine that hangs does: connections stay, nothing is answered.
func (n *Node) Pause() { n.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (n *Node) Resume() { n.signal(syscall.SIGCONT) }

// Kill ends the process without notice.
func (n *Node) Kill() { n.end(syscall.SIGKILL) }

// Stop ends the process as an operator does.
func (n *Node) Stop() { n.end(syscall.SIGTERM) }

func (n *Node) end(s syscall.Signal) {
	n.signal(s)
	n.signal(syscall.SIGCONT)
	n.mu.Lock()
	ended, running := n.ended, n.process != nil
	n.process = nil
	n.mu.Unlock()
	if !running {
		return
	}
	<-ended
	n.client.CloseIdleConnections()
}

// Unplug takes the node's link down, Plug up again.
func (n *Node) Unplug() error { return hub.run("ip", "link", "set", portOf(n.namespace), "down") }

// Plug undoes Unplug.
func (n *Node) Plug() error { return hub.run("ip", "link", "set", portOf(n.namespace), "up") }

// SetRate changes the rate of the node's link, both ways, in bits per second.
func (n *Node) SetRate(rate int64) error {
	return errors.Join(shape(n.namespace, "eth0", rate), shape(hub, portOf(n.namespace), rate))
}

// DropGossip loses all gossip between this node and others. Transfers go on.
func (n *Node) DropGossip(others ...*Node) error {
	for _, other := range others {
		for _, protocol := range []string{"udp", "tcp"} {
			for _, port := range []string{"--dport", "--sport"} {
				if err := n.namespace.run("iptables", "-A", "INPUT", "-s", other.settings.Address, "-p", protocol, port, "7946", "-j", "DROP"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// DropTransfers loses all requests for content that another node makes to this one, as a broken link does. Gossip goes on.
func (n *Node) DropTransfers(from *Node) error {
	return n.namespace.run("iptables", "-A", "INPUT", "-s", from.settings.Address, "-p", "tcp", "--dport", "7947", "-j", "DROP")
}

// CPU returns the processor time that the process has used.
func (n *Node) CPU() (time.Duration, error) {
	seconds, err := n.Metric("process_cpu_seconds_total")
	return time.Duration(seconds * float64(time.Second)), err
}

// Transferred returns the bytes that the node has sent to the others and received from them, headers included.
func (n *Node) Transferred() (sent, received int64, err error) {
	if sent, err = counter(portOf(n.namespace), "rx_bytes"); err != nil {
		return 0, 0, err
	}
	received, err = sentBy(portOf(n.namespace))
	return sent, received, err
}

// Log returns what the node has logged.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// PID is the number of the process.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return 0
	}
	return n.process.Process.Pid
}

// CacheDir is the node's cache.dir.
func (n *Node) CacheDir() string { return filepath.Join(n.dir, "cache") }
