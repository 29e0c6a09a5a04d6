package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mirror/internal/admin"
)

func newPin(logging *loggingFlags) *cobra.Command {
	return newPinning(logging, cobra.Command{
		Use:   "pin REFERENCE|DIGEST",
		Short: "Keep an image in a running mirror",
		Long: "Pin an image that a running mirror holds: its manifest and everything that this refers to is never evicted, what is\n" +
			"not here yet included when it comes. A tag is pinned as what it names now: pin it again when it has moved.",
	}, "pinned %s: %s in %d blobs\n", (*admin.Client).Pin)
}

func newUnpin(logging *loggingFlags) *cobra.Command {
	return newPinning(logging, cobra.Command{
		Use:   "unpin REFERENCE|DIGEST",
		Short: "Let a running mirror evict an image again",
		Long:  "Take back a pin. What belongs to another pinned image stays pinned.",
	}, "unpinned %s: %s in %d blobs\n", (*admin.Client).Unpin)
}

// newPinning completes a command that changes a pin, and reports in the given format.
func newPinning(logging *loggingFlags, cmd cobra.Command, format string, change func(*admin.Client, context.Context, string) (admin.Change, error)) *cobra.Command {
	asking := &asking{flags: configFlags{logging: logging}}
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return asking.ask(cmd, func(ctx context.Context, mirror *admin.Client) error {
			done, err := change(mirror, ctx, args[0])
			if err != nil {
				return fmt.Errorf("%s: %w", cmd.Name(), err)
			}
			return report(cmd, format, done)
		})
	}
	asking.register(&cmd)
	return &cmd
}
