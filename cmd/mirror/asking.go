package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"mirror/internal/admin"
)

// asking is what commands have in common that ask a running mirror: where it is, and how to end early.
type asking struct {
	flags configFlags
	url   string
}

func (a *asking) register(cmd *cobra.Command) {
	a.flags.register(cmd.Flags())
	cmd.Flags().StringVar(&a.url, "admin", "", "ask the mirror with this admin `URL` (default: that of admin.listen in the configuration)")
}

// ask calls do with a client of the mirror. Its errors are those of a command that was understood.
func (a *asking) ask(cmd *cobra.Command, do func(context.Context, *admin.Client) error) error {
	base := a.url
	if base == "" {
		cfg, err := a.flags.load()
		if err != nil {
			return err
		}
		base = admin.BaseURL(cfg.Admin.Listen)
	}
	client, err := admin.NewClient(base)
	if err != nil {
		return &failed{exitUsage, fmt.Errorf("--admin: %w", err)}
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := do(ctx, client); err != nil {
		return &failed{exitFailed, err}
	}
	return nil
}

// outputFlag is how a command writes what it was told.
type outputFlag struct{ format string }

func (o *outputFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "text", "write text or json")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if o.format != "text" && o.format != "json" {
			return fmt.Errorf("--output: got %q, want text or json", o.format)
		}
		return nil
	}
}

// write writes an answer, as the mirror gave it or as text makes it readable.
func (o *outputFlag) write(out io.Writer, answer any, text func(io.Writer) error) error {
	err := error(nil)
	if o.format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(answer)
	} else {
		err = text(out)
	}
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
