package main

import (
	"fmt"

	"github.com/spf13/cobra"
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
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid"); err != nil {
		return &failed{exitFailed, fmt.Errorf("write result: %w", err)}
	}
	return nil
}
