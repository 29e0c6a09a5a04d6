package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mirror/internal/admin"
)

// removeCommand takes something out of a running mirror.
type removeCommand struct {
	asking     asking
	repository bool
}

func newRemove(logging *loggingFlags) *cobra.Command {
	r := &removeCommand{asking: asking{flags: configFlags{logging: logging}}}
	cmd := &cobra.Command{
		Use:   "remove REFERENCE|DIGEST",
		Short: "Remove an image or content from a running mirror",
		Long: "Remove a tag from a running mirror with the content that nothing else needs, or content by its digest with what\n" +
			"only it refers to. alpine means alpine:latest. What is pinned has to be unpinned first. The room is free at once,\n" +
			"and the next pull fetches again.",
		Args: cobra.ExactArgs(1),
		RunE: r.run,
	}
	r.asking.register(cmd)
	cmd.Flags().BoolVar(&r.repository, "repository", false, "the argument is a repository: remove all of it that no other repository has")
	return cmd
}

func (r *removeCommand) run(cmd *cobra.Command, args []string) error {
	return r.asking.ask(cmd, func(ctx context.Context, mirror *admin.Client) error {
		remove := mirror.Remove
		if r.repository {
			remove = mirror.RemoveRepository
		}
		done, err := remove(ctx, args[0])
		if err != nil {
			return fmt.Errorf("remove: %w", err)
		}
		return report(cmd, "removed %s: freed %s in %d blobs\n", done)
	})
}

// report writes one line about a change.
func report(cmd *cobra.Command, format string, done admin.Change) error {
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), format, done.Reference, readableSize(done.Bytes), done.Blobs); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
