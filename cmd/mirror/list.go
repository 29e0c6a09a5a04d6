package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mirror/internal/admin"
)

// listCommand shows what a running mirror holds.
type listCommand struct {
	asking asking
	output outputFlag
}

func newList(logging *loggingFlags) *cobra.Command {
	l := &listCommand{asking: asking{flags: configFlags{logging: logging}}}
	cmd := &cobra.Command{
		Use:   "list [REPOSITORY]",
		Short: "Show what a running mirror holds",
		Long: "Show the images that a running mirror holds, of one repository or of all: each tag, and each manifest without a\n" +
			"tag, with what is held of it. SIZE includes what images share. HELD counts the blobs that are here of those that\n" +
			"the manifests which are here refer to.",
		Args: cobra.MaximumNArgs(1),
		RunE: l.run,
	}
	l.asking.register(cmd)
	l.output.register(cmd)
	return cmd
}

func (l *listCommand) run(cmd *cobra.Command, args []string) error {
	repository := ""
	if len(args) > 0 {
		repository = args[0]
	}
	return l.asking.ask(cmd, func(ctx context.Context, mirror *admin.Client) error {
		list, err := mirror.Tags(ctx, repository)
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		return l.output.write(cmd.OutOrStdout(), list, func(out io.Writer) error { return writeImages(out, list, time.Now()) })
	})
}

// writeImages writes a table with a line for each image.
func writeImages(out io.Writer, list admin.TagList, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tDIGEST\tSIZE\tHELD\tSTORED\tUSED\tPINNED")
	for _, t := range list.Tags {
		fmt.Fprintf(table, "%s\t%.19s\t%s\t%s\t%s\t%s\t%s\n", imageName(t), t.Digest, readableSize(t.Size), heldOf(t),
			readableAge(now, t.Stored), readableAge(now, t.Used), pinMark(t.Pinned))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if rest := list.Unreferenced; rest != nil && rest.Blobs > 0 {
		_, err := fmt.Fprintf(out, "and %s in %d blobs that no manifest held here refers to\n", readableSize(rest.Bytes), rest.Blobs)
		return err
	}
	return nil
}

// imageName is what remove and pin take.
func imageName(t admin.Tag) string {
	if t.Tag != "" {
		return t.Repository + ":" + t.Tag
	}
	return t.Repository + "@" + t.Digest.String()
}

// heldOf says how much of an image is here: "complete", "partial 3/5", "absent".
func heldOf(t admin.Tag) string {
	if t.State == "partial" {
		return fmt.Sprintf("partial %d/%d", t.Blobs.Held, t.Blobs.Known)
	}
	return string(t.State)
}

func pinMark(pinned bool) string {
	if pinned {
		return "pinned"
	}
	return "-"
}
