package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for a release (-X main.version=v1.2.3). Otherwise the build's own record tells.
var version string

// build says which program this is.
type build struct {
	version string
	commit  string
}

// readBuild asks the linker's value first, then what the Go tool recorded. What nobody recorded is "unknown".
func readBuild() build {
	b := build{version: version, commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if ok && b.version == "" {
		b.version = info.Main.Version
	}
	if b.version == "" || b.version == "(devel)" {
		b.version = "devel"
	}
	if !ok {
		return b
	}
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	if revision := settings["vcs.revision"]; revision != "" {
		b.commit = revision
	}
	if settings["vcs.modified"] == "true" {
		b.commit += " (modified)"
	}
	return b
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := readBuild()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "mirror %s\ncommit %s\n%s %s/%s\n",
				b.version, b.commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if err != nil {
				return &failed{exitFailed, fmt.Errorf("write version: %w", err)}
			}
			return nil
		},
	}
}
