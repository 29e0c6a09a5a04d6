package peer

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"mirror/internal/units"
)

const (
	// minChunkSize and maxChunkSize bound the unit of exchange: below, requests cost more than what they bring; above, nothing
	// is shared before it is complete.
	minChunkSize = 64 * units.KiB
	maxChunkSize = units.GiB
	// minUpload is the lowest limit of what is sent to peers, in bytes per second: a chunk of the usual size in eight seconds.
	minUpload = units.MiB
	// maxName is the longest name of a node or a cluster in bytes. Hosts of Linux have at most 64.
	maxName = 128
	// maxSeeds bounds the list of seeds. More than one DNS name is hardly needed.
	maxSeeds = 256
)

// Validate tells what is wrong with the values, each error beginning with its key. It reads no file and resolves no name.
func (c Config) Validate() error {
	words := errors.Join(c.chunkProblem(), c.uploadProblem(), c.nameProblems())
	if !c.Enabled() {
		return errors.Join(words, c.idleProblems())
	}
	return errors.Join(words, c.listenProblem(), c.transferProblem(), c.advertiseProblem(), c.joinProblems(), c.consentProblem())
}

func (c Config) chunkProblem() error {
	if c.ChunkSize < minChunkSize || c.ChunkSize > maxChunkSize {
		return fmt.Errorf("chunk_size: got %v, want %v to %v, the same on every node", c.ChunkSize, minChunkSize, maxChunkSize)
	}
	return nil
}

func (c Config) uploadProblem() error {
	if c.Upload != 0 && c.Upload < minUpload {
		return fmt.Errorf("upload: got %v, want 0 for no limit, or at least %v a second: less is so slow that peers look elsewhere", c.Upload, minUpload)
	}
	return nil
}

func (c Config) nameProblems() error {
	var errs []error
	if c.Name != "" && !isName(c.Name) {
		errs = append(errs, fmt.Errorf("name: got %q, want at most %d letters, digits, dots, dashes and underscores", c.Name, maxName))
	}
	if !isName(c.Cluster) {
		errs = append(errs, fmt.Errorf("cluster: got %q, want 1 to %d letters, digits, dots, dashes and underscores, the same on every node", c.Cluster, maxName))
	}
	if c.Zone != "" && (!isName(c.Zone) || len(c.Zone) > maxZone) {
		errs = append(errs, fmt.Errorf("zone: got %q, want at most %d letters, digits, dots, dashes and underscores", c.Zone, maxZone))
	}
	return errors.Join(errs...)
}

// idleProblems finds what would have no effect without a gossip address, which was forgotten then.
func (c Config) idleProblems() error {
	var errs []error
	for _, set := range []struct {
		key string
		is  bool
	}{
		{"transfer", c.Transfer != ""}, {"advertise", c.Advertise != ""}, {"join", len(c.Join) > 0}, {"secret_file", c.SecretFile != ""},
	} {
		if set.is {
			errs = append(errs, fmt.Errorf("%s: has no effect while peers.listen is empty: set peers.listen, or leave this out", set.key))
		}
	}
	return errors.Join(errs...)
}

func (c Config) listenProblem() error {
	host, port, err := splitAddress(c.Listen)
	bind, ok := bindAddress(host)
	switch {
	case err != nil || !ok:
		return fmt.Errorf("listen: got %q, want an IP address and a port, such as 10.0.0.1:5002, or :5002 for every address", c.Listen)
	case bind.Is6() && bind.IsUnspecified() && c.Advertise == "":
		return fmt.Errorf("listen: got %q, which does not say where this node is: set peers.advertise to the address that peers reach it at", c.Listen)
	case port == math.MaxUint16 && c.Transfer == "":
		return fmt.Errorf("listen: got %q, and there is no port after it for transfers: set peers.transfer", c.Listen)
	}
	return nil
}

func (c Config) transferProblem() error {
	if c.Transfer == "" {
		return nil
	}
	host, port, err := splitAddress(c.Transfer)
	if _, ok := bindAddress(host); err != nil || !ok {
		return fmt.Errorf("transfer: got %q, want an IP address and a port, such as 10.0.0.1:5003, or :5003 for every address", c.Transfer)
	}
	if _, gossip, err := splitAddress(c.Listen); err == nil && port == gossip && port != 0 {
		return fmt.Errorf("transfer: got %q, whose port is that of peers.listen: choose another one", c.Transfer)
	}
	return nil
}

func (c Config) advertiseProblem() error {
	if c.Advertise == "" {
		return nil
	}
	addr, err := netip.ParseAddr(c.Advertise)
	switch {
	case err == nil && addr.IsUnspecified():
		return fmt.Errorf("advertise: got %q, which is every address: name the one that peers reach this node at", c.Advertise)
	case err != nil && !isName(c.Advertise):
		return fmt.Errorf("advertise: got %q, want an IP address or a host name, without a port", c.Advertise)
	}
	return nil
}

func (c Config) joinProblems() error {
	if len(c.Join) > maxSeeds {
		return fmt.Errorf("join: got %d seeds, want at most %d: name a few, or one DNS name with the addresses of all", len(c.Join), maxSeeds)
	}
	var errs []error
	for i, text := range c.Join {
		if _, err := parseSeed(text, 0); err != nil {
			errs = append(errs, fmt.Errorf("join[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// consentProblem keeps a mirror from talking to strangers: without a secret nothing leaves the machine.
func (c Config) consentProblem() error {
	if c.SecretFile != "" {
		return nil
	}
	for _, address := range []string{c.Listen, c.TransferAddress()} {
		if host, _, err := splitAddress(address); err == nil && !isLoopback(host) {
			return errNoConsent(address)
		}
	}
	if c.Advertise != "" && !isLoopback(c.Advertise) {
		return errNoConsent(c.Advertise)
	}
	return nil
}

func errNoConsent(address string) error {
	return fmt.Errorf("secret_file: is empty, but %s is reached by other machines: name a file with a key, for example from %q, "+
		"the same on every node", address, "openssl rand -base64 32")
}

// isName tells whether text can be the name of a node, a cluster or a zone. None of its characters needs quoting in a
// header, a list or a log.
func isName(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return text != "" && len(text) <= maxName
}
