package peer_test

import (
	"strings"
	"testing"

	"mirror/internal/peer"
	"mirror/internal/units"
)

// clustered is the configuration of a node in a real network.
func clustered() peer.Config {
	c := peer.Defaults()
	c.Listen, c.SecretFile, c.Join = "10.0.0.1:5002", "/etc/mirror/secret", []string{"mirror.example"}
	return c
}

func TestValidate(t *testing.T) {
	f := func(want string, change func(*peer.Config)) {
		t.Helper()
		c := clustered()
		change(&c)
		switch err := c.Validate(); {
		case want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("got %v, want one error that begins with %s", err, want)
		}
	}
	f("", func(*peer.Config) {})
	f("", func(c *peer.Config) { *c = peer.Defaults() })
	f("", func(c *peer.Config) { c.Listen = ":5002" })
	f("", func(c *peer.Config) { c.Listen = "[2001:db8::1]:5002" })
	f("", func(c *peer.Config) { c.Listen, c.SecretFile = "localhost:5002", "" })
	f("", func(c *peer.Config) { c.Listen, c.SecretFile = "[::1]:5002", "" })
	f("", func(c *peer.Config) { c.Listen, c.Advertise = "[::]:5002", "2001:db8::1" })
	f("listen: ", func(c *peer.Config) { c.Listen = "5002" })
	f("listen: ", func(c *peer.Config) { c.Listen = "mirror.example:5002" })
	f("listen: ", func(c *peer.Config) { c.Listen = "10.0.0.1:gossip" })
	f("listen: ", func(c *peer.Config) { c.Listen = "[::]:5002" })
	f("listen: ", func(c *peer.Config) { c.Listen = "10.0.0.1:65535" })
	f("", func(c *peer.Config) { c.Listen, c.Transfer = "10.0.0.1:65535", "10.0.0.1:5003" })
	f("transfer: ", func(c *peer.Config) { c.Transfer = "10.0.0.1" })
	f("transfer: ", func(c *peer.Config) { c.Transfer = "mirror.example:5003" })
	f("transfer: ", func(c *peer.Config) { c.Transfer = "10.0.0.2:5002" })
	f("", func(c *peer.Config) { c.Advertise = "node-7.mirror.example" })
	f("advertise: ", func(c *peer.Config) { c.Advertise = "10.0.0.1:5002" })
	f("advertise: ", func(c *peer.Config) { c.Advertise = "0.0.0.0" })
	f("", func(c *peer.Config) {
		c.Join = []string{"a.example:5002", "10.0.0.2", "[2001:db8::2]:5002", "2001:db8::3", "[2001:db8::4]"}
	})
	f("join[1]: ", func(c *peer.Config) { c.Join = []string{"a.example", ""} })
	f("join[0]: ", func(c *peer.Config) { c.Join = []string{"a.example:70000"} })
	f("join[0]: ", func(c *peer.Config) { c.Join = []string{"https://a.example"} })
	f("join: ", func(c *peer.Config) { c.Join = make([]string, 300) })
	f("name: ", func(c *peer.Config) { c.Name = "a,b" })
	f("cluster: ", func(c *peer.Config) { c.Cluster = "" })
	f("zone: ", func(c *peer.Config) { c.Zone = strings.Repeat("z", 64) })
	f("", func(c *peer.Config) { c.Upload = units.MiB })
	f("upload: ", func(c *peer.Config) { c.Upload = units.KiB })
	f("upload: ", func(c *peer.Config) { c.Upload = -units.GiB })
	f("chunk_size: ", func(c *peer.Config) { c.ChunkSize = units.KiB })
	f("chunk_size: ", func(c *peer.Config) { c.ChunkSize = 2 * units.GiB })
	f("join: ", func(c *peer.Config) { c.Listen, c.SecretFile = "", "" })
	f("secret_file: ", func(c *peer.Config) { c.Listen, c.Join = "", nil })
}

// TestNothingLeavesTheMachineWithoutSecret goes through the addresses that other machines may reach.
func TestNothingLeavesTheMachineWithoutSecret(t *testing.T) {
	f := func(listen, transfer, advertise string, want bool) {
		t.Helper()
		c := peer.Defaults()
		c.Listen, c.Transfer, c.Advertise = listen, transfer, advertise
		err := c.Validate()
		if got := err == nil; got != want || !want && !strings.HasPrefix(err.Error(), "secret_file: ") {
			t.Errorf("listen %q, transfer %q, advertise %q: %v", listen, transfer, advertise, err)
		}
	}
	f("127.0.0.1:5002", "", "", true)
	f("127.0.0.1:5002", "127.0.0.2:5003", "127.0.0.1", true)
	f("[::ffff:127.0.0.1]:5002", "", "", true)
	f("10.0.0.1:5002", "", "", false)
	f(":5002", "", "", false)
	f("0.0.0.0:5002", "", "", false)
	f("127.0.0.1:5002", ":5003", "", false)
	f("127.0.0.1:5002", "10.0.0.1:5003", "", false)
	f("127.0.0.1:5002", "", "10.0.0.1", false)
	f("127.0.0.1:5002", "", "node.example", false)
}

func TestTransferAddress(t *testing.T) {
	f := func(listen, transfer, want string) {
		t.Helper()
		if got := (peer.Config{Listen: listen, Transfer: transfer}).TransferAddress(); got != want {
			t.Errorf("listen %q, transfer %q: got %q, want %q", listen, transfer, got, want)
		}
	}
	f("", "", "")
	f("10.0.0.1:5002", "", "10.0.0.1:5003")
	f(":5002", "", ":5003")
	f("[::1]:5002", "", "[::1]:5003")
	f("127.0.0.1:0", "", "127.0.0.1:0")
	f("10.0.0.1:5002", "10.0.0.2:80", "10.0.0.2:80")
}
