package peer

import (
	"net"
	"net/netip"
	"os"
	"strconv"

	"mirror/internal/units"
)

// Config says how nodes find each other.
type Config struct {
	// Listen is the gossip address, host:port for TCP and UDP. Empty means no peers.
	Listen string `yaml:"listen"`
	// Transfer is the address that peers fetch content from. Empty means the host of Listen and its port plus one.
	Transfer string `yaml:"transfer"`
	// Advertise is the address or host name that peers reach both addresses at, when it differs. A name is looked up once, at
	// the start.
	Advertise string `yaml:"advertise"`
	// Join lists seeds: host:port, or a DNS name that resolves to several. Without a port it is that of Listen.
	Join []string `yaml:"join"`
	// Name is the name of this node in the cluster. It is unique there, and the same after a restart, because what a node
	// owns hangs on its name. Empty means the name of the host.
	Name string `yaml:"name"`
	// Cluster is the name of the cluster. Members of another one are refused, also when they have the same secret.
	Cluster string `yaml:"cluster"`
	// Zone names the place of this node; content crosses a zone's border once.
	Zone string `yaml:"zone"`
	// SecretFile is the file with the keys of the cluster, one a line. It is required unless all addresses are loopback ones.
	SecretFile string `yaml:"secret_file"`
	// ChunkSize is the unit of exchange in bytes, the same on every node.
	ChunkSize units.Bytes `yaml:"chunk_size"`
	// Upload limits the bytes per second that this node sends to all peers together. 0 is no limit. With less than slowUpload
	// the node owns nothing: it would hold up everybody who asks it.
	Upload units.Bytes `yaml:"upload"`
	// ShareTags lets one node revalidate a tag for all of them.
	ShareTags bool `yaml:"share_tags"`
}

// slowUpload is the least upload limit of a member that owns content. Others have a hundred times that to offer.
const slowUpload = 2 * units.MiB

// Defaults returns the configuration of a node without peers.
func Defaults() Config {
	return Config{Cluster: "mirror", ChunkSize: 8 * units.MiB, ShareTags: true}
}

// Enabled tells whether there are peers at all.
func (c Config) Enabled() bool { return c.Listen != "" }

// TransferAddress returns the host:port to serve content to peers on. It is empty without peers. With port 0 in Listen it
// has port 0 too.
func (c Config) TransferAddress() string {
	if c.Transfer != "" || c.Listen == "" {
		return c.Transfer
	}
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return ""
	}
	if port > 0 {
		port++
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// nodeName returns the name of this node, that of the host when none was configured.
func (c Config) nodeName() (string, error) {
	if c.Name != "" {
		return c.Name, nil
	}
	return os.Hostname()
}

// splitAddress parses host:port.
func splitAddress(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(number), err
}

// bindAddress returns the address that a host to listen on stands for: every address when it is empty. The answer for a
// name other than localhost is false, because which of its addresses is meant would be a guess.
func bindAddress(host string) (netip.Addr, bool) {
	switch host {
	case "":
		return netip.IPv4Unspecified(), true
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	addr, err := netip.ParseAddr(host)
	return addr.Unmap(), err == nil
}

// isLoopback tells whether only this machine reaches a host. A name may lead anywhere.
func isLoopback(host string) bool {
	addr, ok := bindAddress(host)
	return ok && addr.IsLoopback()
}
