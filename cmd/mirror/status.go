package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mirror/internal/admin"
)

// statusCommand shows what a running mirror is doing.
type statusCommand struct {
	asking asking
	output outputFlag
}

func newStatus(logging *loggingFlags) *cobra.Command {
	s := &statusCommand{asking: asking{flags: configFlags{logging: logging}}}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a running mirror is doing",
		Long: "Show what a running mirror holds in its tiers, how requests for content went since it started, what that saved its\n" +
			"upstreams, what is being downloaded, and how the upstreams are doing: which endpoints work, what each sent, what is under\n" +
			"way, how the mirror is signed in, and how much of the rate limit is left.",
		Args: cobra.NoArgs,
		RunE: s.run,
	}
	s.asking.register(cmd)
	s.output.register(cmd)
	return cmd
}

func (s *statusCommand) run(cmd *cobra.Command, _ []string) error {
	return s.asking.ask(cmd, func(ctx context.Context, mirror *admin.Client) error {
		status, err := mirror.Status(ctx)
		if err != nil {
			return fmt.Errorf("status: %w", err)
		}
		return s.output.write(cmd.OutOrStdout(), status, func(out io.Writer) error { return writeStatus(out, status, time.Now()) })
	})
}

// writeStatus writes the sections one after the other, each aligned in itself.
func writeStatus(out io.Writer, s admin.Status, now time.Time) error {
	for _, section := range []func(io.Writer, admin.Status, time.Time){writeSums, writeFills, writeUpstreams, writePeers} {
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		section(table, s, now)
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func writeSums(out io.Writer, s admin.Status, now time.Time) {
	tier := func(t admin.TierStatus) string { return fmt.Sprintf("%s in %d blobs", readableSize(t.Bytes), t.Blobs) }
	fmt.Fprintf(out, "mirror\t%s, up for %s\n", s.Version, readableAge(now, s.Started))
	fmt.Fprintf(out, "memory\t%s\n", tier(s.Cache.Memory))
	fmt.Fprintf(out, "disk\t%s of %s\n", tier(s.Cache.Disk), readableSize(s.Cache.Limit))
	fmt.Fprintf(out, "partial\t%s\n", tier(s.Cache.Partial))
	fmt.Fprintf(out, "lookups\t%.1f %% without a download of their own (%d hit, %d join, %d stale, %d miss)\n",
		100*s.Lookups.HitRatio, s.Lookups.Hit, s.Lookups.Join, s.Lookups.Stale, s.Lookups.Miss)
	fmt.Fprintf(out, "traffic\t%s served, %s from upstreams, %s saved\n",
		readableSize(s.Traffic.Served), readableSize(s.Traffic.Upstream), readableSize(max(0, s.Traffic.Saved)))
}

func writeFills(out io.Writer, s admin.Status, _ time.Time) {
	if len(s.Fills) == 0 {
		return
	}
	fmt.Fprintln(out, "\nDOWNLOAD\tRECEIVED\tOF\tCONNECTIONS\tREADERS\tREPOSITORIES")
	for _, f := range s.Fills {
		size := "unknown"
		if f.Size != nil {
			size = readableSize(*f.Size)
		}
		readers := fmt.Sprint(f.Readers)
		if f.Ahead {
			readers = "ahead" // nobody has asked for it yet
		}
		fmt.Fprintf(out, "%.19s\t%s\t%s\t%d\t%s\t%s\n",
			f.Digest, readableSize(f.Received), size, f.Connections, readers, strings.Join(f.Repositories, " "))
	}
}
