package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mirror/internal/config"
)

// checkConfigCommand says what is wrong with a configuration, without serving.
type checkConfigCommand struct {
	flags   configFlags
	connect bool
}

func newCheckConfig(logging *loggingFlags) *cobra.Command {
	c := &checkConfigCommand{flags: configFlags{logging: logging}}
	cmd := &cobra.Command{
		Use:   "check-config",
		Short: "Say what is wrong with a configuration",
		Long: "Decode and validate a configuration, and print every problem with its place and its remedy.\n" +
			"With --connect, also try what a start would try: directories, ports, files and upstreams.",
		Args: cobra.NoArgs,
		RunE: c.run,
	}
	c.flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&c.connect, "connect", false, "also try directories, listen addresses, files and upstreams")
	return cmd
}

func (c *checkConfigCommand) run(cmd *cobra.Command, _ []string) error {
	cfg, err := c.flags.load()
	if err != nil {
		return err
	}
	if c.connect {
		if err := tryStart(cmd.Context(), cfg); err != nil {
			return &failed{exitUsage, err}
		}
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), c.verdict(cfg)); err != nil {
		return &failed{exitFailed, fmt.Errorf("write result: %w", err)}
	}
	return nil
}

// verdict is what is said of a configuration without faults.
func (c *checkConfigCommand) verdict(cfg config.Config) string {
	lines := []string{"the configuration is valid"}
	if c.connect {
		lines = append(lines, signInNotes(cfg)...)
	}
	return strings.Join(lines, "\n")
}

// signInNotes names the upstreams that are registries of a cloud and have no credentials. That may be meant, as some serve
// strangers; those of the default list do.
func signInNotes(cfg config.Config) []string {
	public := map[string]bool{}
	for _, up := range config.Default().Upstreams {
		public[up.Registry] = true
	}
	var notes []string
	for i, up := range cfg.Upstreams {
		if advice, required := up.SignInAdvice(); advice != "" && !required && !public[up.Registry] {
			notes = append(notes, fmt.Sprintf("note: upstreams[%d] (%s) is anonymous: %s", i, up.Registry, advice))
		}
	}
	return notes
}
