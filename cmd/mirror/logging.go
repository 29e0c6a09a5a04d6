package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/pflag"

	"mirror/internal/config"
)

// loggingFlags are the flags of every command that outrank the log section of the configuration. Empty means that the
// configuration decides.
type loggingFlags struct {
	Level  string
	Format string
}

func (f *loggingFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.Level, "log-level", "", "log lines of this level and above: debug, info, warn or error")
	flags.StringVar(&f.Format, "log-format", "", "write log lines as text or json")
}

func (f *loggingFlags) validate() error {
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, f.Level) {
		return fmt.Errorf("--log-level: got %q, want debug, info, warn or error", f.Level)
	}
	if !slices.Contains([]string{"", "text", "json"}, f.Format) {
		return fmt.Errorf("--log-format: got %q, want text or json", f.Format)
	}
	return nil
}

// apply puts the flags over the configuration.
func (f *loggingFlags) apply(cfg *config.Config) {
	if f.Level != "" {
		cfg.Log.Level = f.Level
	}
	if f.Format != "" {
		cfg.Log.Format = f.Format
	}
}

// newLogger returns a logger as a valid configuration describes it, with the level that a reload moves.
func newLogger(cfg config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	level.Set(levelOf(cfg))
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}

// levelOf returns the level of a valid configuration.
func levelOf(cfg config.Log) slog.Level {
	return map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[cfg.Level]
}
