//go:build linux

package netlab

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Zone is a place with nodes in it.
type Zone struct {
	Name string
	// Rate is that of the link to the rest, both ways, in bits per second; zero is no link at all: the zone is where the
	// registry is, or as near as makes no difference.
	Rate int64
}

// hub is the namespace with the bridges that everything is plugged into.
const hub namespace = prefix + "hub"

// wiring builds the network: one bridge in the middle, and one for each zone behind a link.
func wiring(zones []Zone) error {
	if err := hub.create(); err != nil {
		return err
	}
	if err := bridge("core"); err != nil {
		return err
	}
	for i, zone := range zones {
		if zone.Rate == 0 {
			continue
		}
		if err := zoneBridge(i, zone.Rate); err != nil {
			return err
		}
	}
	return nil
}

func bridge(name string) error {
	if err := hub.run("ip", "link", "add", name, "type", "bridge"); err != nil {
		return err
	}
	return hub.run("ip", "link", "set", name, "up")
}

// zoneBridge makes the bridge of a zone and its link to the middle. The end in the middle sends into the zone.
func zoneBridge(i int, rate int64) error {
	name, inner, outer := zoneName(i), fmt.Sprintf("out%d", i), intoZone(i)
	if err := bridge(name); err != nil {
		return err
	}
	if err := hub.run("ip", "link", "add", inner, "type", "veth", "peer", "name", outer); err != nil {
		return err
	}
	for end, at := range map[string]string{inner: name, outer: "core"} {
		if err := hub.run("ip", "link", "set", end, "master", at, "up"); err != nil {
			return err
		}
		if err := shape(hub, end, rate); err != nil {
			return err
		}
	}
	return nil
}

func zoneName(i int) string { return "zone" + strconv.Itoa(i) }

// intoZone is the interface that sends into a zone.
func intoZone(i int) string { return "into" + strconv.Itoa(i) }

// plug gives a namespace an interface at a bridge of the hub, with an address and a rate both ways.
func plug(n namespace, at, address string, rate int64) error {
	port := portOf(n)
	if err := hub.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", string(n)); err != nil {
		return err
	}
	if err := hub.run("ip", "link", "set", port, "master", at, "up"); err != nil {
		return err
	}
	if err := n.run("ip", "address", "add", address+"/16", "dev", "eth0"); err != nil {
		return err
	}
	if err := n.run("ip", "link", "set", "eth0", "up"); err != nil {
		return err
	}
	if err := shape(n, "eth0", rate); err != nil {
		return err
	}
	return shape(hub, port, rate)
}

// portOf is the interface of the hub at which a namespace is plugged in.
func portOf(n namespace) string { return "to-" + strings.TrimPrefix(string(n), prefix) }

// shape bounds what an interface sends to a rate in bits per second. The queue holds 50 ms of it.
func shape(n namespace, device string, rate int64) error {
	return n.run("tc", "qdisc", "replace", "dev", device, "root", "tbf",
		"rate", strconv.FormatInt(rate, 10)+"bit", "burst", "128kb", "latency", "50ms")
}

// sentBy returns the bytes that an interface of the hub has sent, headers included.
func sentBy(device string) (int64, error) { return counter(device, "tx_bytes") }

// counter reads one of the kernel's counters of an interface of the hub.
func counter(device, name string) (int64, error) {
	file := "/sys/class/net/" + device + "/statistics/" + name
	out, err := exec.CommandContext(context.Background(), "ip", "netns", "exec", string(hub), "cat", file).Output()
	if err != nil {
		return 0, fmt.Errorf("read the counter of %s: %w", device, err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}
