package config

import (
	"os"
	"path/filepath"
	"time"

	"mirror/internal/admin"
	"mirror/internal/cache"
	"mirror/internal/peer"
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
	Peers peer.Config `yaml:"peers"`
	// Log is what is logged, and how.
	Log Log `yaml:"log"`
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
		Peers:     peer.Defaults(),
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
