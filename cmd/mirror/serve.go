package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"mirror/internal/config"
	"mirror/internal/node"
)

// serveCommand runs a node until a signal stops it.
type serveCommand struct {
	flags   configFlags
	cfg     config.Config
	log     *slog.Logger
	level   *slog.LevelVar
	signals chan os.Signal
}

func newServe(logging *loggingFlags) *cobra.Command {
	s := &serveCommand{flags: configFlags{logging: logging}}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the mirror",
		Long: "Run the mirror. Without --config it serves pulls for the well-known public registries on 127.0.0.1:5000.\n" +
			"SIGTERM and SIGINT drain and stop it, a second one stops it at once. SIGHUP reads credentials, certificates,\n" +
			"limits and the log level again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	s.flags.register(cmd.Flags())
	return cmd
}

// run starts a node and stays until it has stopped.
func (s *serveCommand) run(ctx context.Context, stderr io.Writer) (err error) {
	if s.cfg, err = s.flags.load(); err != nil {
		return err
	}
	s.log, s.level = newLogger(s.cfg.Log, stderr)
	s.signals = make(chan os.Signal, 2)
	signal.Notify(s.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(s.signals)

	boundGarbage()
	n, err := node.New(s.cfg, readBuild().version, s.log)
	if err != nil {
		return &failed{exitUsage, err}
	}
	if err := n.Start(ctx); err != nil {
		return &failed{exitFailed, fmt.Errorf("start: %w", err)}
	}
	return s.stay(ctx, n)
}

// stay serves until a signal or a failure ends it.
func (s *serveCommand) stay(ctx context.Context, n *node.Node) error {
	for {
		select {
		case received := <-s.signals:
			if received == syscall.SIGHUP {
				s.reload(n)
				continue
			}
			s.log.Info(fmt.Sprintf("%v: draining, a second signal stops at once", received))
			return s.stop(ctx, n)
		case err := <-n.Failed():
			return &failed{exitFailed, errors.Join(err, n.Close(ctx))}
		}
	}
}

// stop drains, unless the user loses patience.
func (s *serveCommand) stop(ctx context.Context, n *node.Node) error {
	closed := make(chan error, 1)
	go func() { closed <- n.Close(ctx) }()
	for {
		select {
		case err := <-closed:
			if err != nil {
				return &failed{exitFailed, fmt.Errorf("stop: %w", err)}
			}
			s.log.Info("stopped")
			return nil
		case received := <-s.signals:
			if received != syscall.SIGHUP {
				return &failed{exitFailed, fmt.Errorf("%v while draining: stopped at once", received)}
			}
		}
	}
}

// reload takes over what can change while serving. A configuration that is wrong changes nothing.
func (s *serveCommand) reload(n *node.Node) {
	cfg, err := s.flags.load()
	if err != nil {
		s.log.Error("reload configuration, keeping the old one", "error", err)
		return
	}
	s.level.Set(levelOf(cfg.Log))
	if err := n.Reload(cfg); err != nil {
		s.log.Error("reload files, keeping what was read before", "error", err)
		return
	}
	s.log.Info("reloaded credentials, certificates, limits and log level")
}
