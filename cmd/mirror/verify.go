package main

import (
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"mirror/internal/node"
)

// verifyCommand compares a store with its digests.
type verifyCommand struct {
	flags  configFlags
	repair bool
}

func newVerify(logging *loggingFlags) *cobra.Command {
	v := &verifyCommand{flags: configFlags{logging: logging}}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Re-read the store of a stopped mirror against its digests",
		Long: "Re-read everything in the data directory of a stopped mirror against its digests, and print a line for each blob\n" +
			"that is damaged. Opening the directory tidies up what a crash has left there, as each start does; nothing else is\n" +
			"changed without --repair. Exits with 1 when damage was found, repaired or not.",
		Args: cobra.NoArgs,
		RunE: v.run,
	}
	v.flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&v.repair, "repair", false, "move damaged blobs into quarantine, so that they are fetched again when somebody asks for them")
	return cmd
}

func (v *verifyCommand) run(cmd *cobra.Command, _ []string) error {
	cfg, err := v.flags.load()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log, _ := newLogger(cfg.Log, cmd.ErrOrStderr())
	out := cmd.OutOrStdout()
	seen, err := node.Verify(ctx, cfg, v.repair, log, func(d node.Damage) {
		fmt.Fprintln(out, damageLine(d))
	})
	if err != nil {
		return &failed{exitFailed, fmt.Errorf("verify: %w", err)}
	}
	if _, err := fmt.Fprintf(out, "%d blobs, %d bytes, %d damaged\n", seen.Blobs, seen.Bytes, seen.Damaged); err != nil {
		return &failed{exitFailed, fmt.Errorf("write result: %w", err)}
	}
	return v.verdict(seen.Damaged)
}

// verdict turns damage into the exit code, and says what to do about it.
func (v *verifyCommand) verdict(damaged int) error {
	switch {
	case damaged == 0:
		return nil
	case v.repair:
		return &failed{exitFailed, fmt.Errorf("took %d damaged blobs out of service: check the disk and the memory of this machine", damaged)}
	default:
		return &failed{exitFailed, fmt.Errorf("found %d damaged blobs: run with --repair to have them fetched again", damaged)}
	}
}

// damageLine is what is printed about one blob.
func damageLine(d node.Damage) string {
	line := fmt.Sprintf("%s: %v", d.Digest, d.Err)
	for i, repository := range d.Repositories {
		separator := ", "
		if i == 0 {
			separator = "; in "
		}
		line += separator + repository.String()
	}
	return line
}
