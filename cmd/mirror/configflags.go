package main

import (
	"github.com/spf13/pflag"

	"mirror/internal/config"
)

// configFlags say where a command's configuration comes from.
type configFlags struct {
	Path    string
	Sets    []string
	logging *loggingFlags
}

func (f *configFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.Path, "config", "c", "", "read the configuration from this file (default: none, every key at its default)")
	flags.StringArrayVar(&f.Sets, "set", nil, "override one key, such as server.listen=:5000 or upstreams.0.hosts=[hub.example]; may be repeated")
}

// load reads the configuration. Whatever is wrong with it is the user's to put right, and so bad usage.
func (f *configFlags) load() (config.Config, error) {
	cfg, err := config.Load(f.Path, f.Sets)
	if err != nil {
		return config.Config{}, &failed{exitUsage, err}
	}
	f.logging.apply(&cfg)
	return cfg, nil
}
