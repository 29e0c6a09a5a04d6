package config

import (
	"os"
	"path/filepath"
	"time"

	"mirror/internal/admin"
	"mirror/internal/cache"
	"mirror/internal/server"
	"mirror/internal/units"
	"mirror/internal/upstream"
)

// Config is everything that a node can be told. Default returns a usable one.
type Config struct {
	// Server is the registry API.
	Server server.Config `yaml:"server"`
	// Admin is the listener for operators.
	Admin admin.Config `yaml:"admin"`
	// Cache is what is kept, and where.
	Cache cache.Config `yaml:"cache"`
	// Upstreams are the registries that the node pulls from. A file that lists any replaces the default list.
	Upstreams []upstream.Config `yaml:"upstreams"`
	// Peers are the other nodes.
	Peers Peers `yaml:"peers"`
	// Log is what is logged, and how.
	Log Log `yaml:"log"`
}

// Peers says how nodes find each other. The keys are fixed, but this build runs alone: Validate refuses a Listen or a
// Join that is not empty, so that nobody believes in a cluster that is not there.
type Peers struct {
	// Listen is the gossip address, host:port for TCP and UDP. Empty means no peers.
	Listen string `yaml:"listen"`
	// Transfer is the address that peers fetch content from. Empty means the host of Listen and its port plus one.
	Transfer string `yaml:"transfer"`
	// Advertise is the host that peers reach both addresses at, when it differs.
	Advertise string `yaml:"advertise"`
	// Join lists seeds: host:port, or a DNS name that resolves to several.
	Join []string `yaml:"join"`
	// Zone names the place of this node; content crosses a zone's border once.
	Zone string `yaml:"zone"`
	// SecretFile is the file with the cluster's key.
	SecretFile string `yaml:"secret_file"`
	// ChunkSize is the unit of exchange in bytes, the same on every node.
	ChunkSize units.Bytes `yaml:"chunk_size"`
	// ShareTags lets one node revalidate a tag for all of them.
	ShareTags bool `yaml:"share_tags"`
}

// Log says what is logged. Lines go to standard error.
type Log struct {
	// Level is the least severe level that is logged: debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is text or json.
	Format string `yaml:"format"`
}

// Default returns the configuration of a node that was told nothing: it listens on loopback and mirrors the public
// registries. Every call returns a new value.
func Default() Config {
	return Config{
		Server: server.Config{Listen: "127.0.0.1:5000", DrainTimeout: 30 * time.Second},
		Admin:  admin.Config{Listen: "127.0.0.1:5001"},
		Cache: cache.Config{
			Dir:     defaultDir(),
			MaxSize: 50 * units.GiB,
			MinFree: units.GiB,
			Sync:    cache.SyncAlways,
			Memory:  cache.MemoryConfig{MaxSize: 256 * units.MiB, MaxBlob: units.MiB},
			Scrub:   cache.ScrubConfig{Rate: units.Rate(16 * units.MiB)},
		},
		Upstreams: upstream.DefaultConfigs(),
		Peers:     Peers{ChunkSize: 8 * units.MiB, ShareTags: true},
		Log:       Log{Level: "info", Format: "text"},
	}
}

// defaultDir is where content is kept when nobody says. It is empty when there is no home directory either, which
// Validate reports.
func defaultDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/mirror"
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "mirror")
}
