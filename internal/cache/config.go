package cache

import "mirror/internal/units"

// Config says where content is kept and how much of it.
type Config struct {
	// Dir is the data directory. One process owns it at a time.
	Dir string `yaml:"dir"`
	// MaxSize bounds the content of the disk tier in bytes, partial content, reservations of running fills and quarantine
	// included. The index and the journals of partial content come on top.
	MaxSize units.Bytes `yaml:"max_size"`
	// MinFree is how many bytes stay free on the file system of Dir, whatever MaxSize allows, but at most a tenth of the file
	// system.
	MinFree units.Bytes `yaml:"min_free"`
	// Sync is SyncAlways or SyncLazy; empty means SyncAlways.
	Sync string `yaml:"sync"`
	// Memory bounds the memory tier.
	Memory MemoryConfig `yaml:"memory"`
	// Scrub re-reads what is stored.
	Scrub ScrubConfig `yaml:"scrub"`
}

// MemoryConfig bounds the memory tier.
type MemoryConfig struct {
	// MaxSize is the most bytes that content in memory may take together. Zero switches the tier off.
	MaxSize units.Bytes `yaml:"max_size"`
	// MaxBlob is the longest blob, in bytes, that the memory tier takes.
	MaxBlob units.Bytes `yaml:"max_blob"`
}

// ScrubConfig says how stored content is compared with its digests in the background.
type ScrubConfig struct {
	// Rate is how much is read, in bytes per second. Zero switches the scrub off.
	Rate units.Rate `yaml:"rate"`
}
