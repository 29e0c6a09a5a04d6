package cache

import "mirror/internal/units"

// Config says where content is kept and how much of it.
type Config struct {
	// Dir is the data directory. One process owns it at a time.
	Dir string `yaml:"dir"`
	// MaxSize bounds the disk tier in bytes, partial content and reservations of running fills included.
	MaxSize units.Bytes `yaml:"max_size"`
	// Memory bounds the memory tier.
	Memory MemoryConfig `yaml:"memory"`
}

// MemoryConfig bounds the memory tier.
type MemoryConfig struct {
	// MaxSize is the most bytes that content in memory may take together. Zero switches the tier off.
	MaxSize units.Bytes `yaml:"max_size"`
	// MaxBlob is the longest blob, in bytes, that the memory tier takes.
	MaxBlob units.Bytes `yaml:"max_blob"`
}
