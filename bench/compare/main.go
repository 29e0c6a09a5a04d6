package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	full       bool
	rounds     int
	turn       time.Duration
	anew       bool
	only, take *regexp.Regexp
	out        string
	fixture    string
	serverCore int
	clientCore int
	blobs      int
	pprof      string
	// What follows is for the process of a pass, which the command starts itself with.
	network string
	scratch string
	program string
	other   string
}

// targets lists the servers that are to be compared.
func (o options) targets() []target {
	return slices.DeleteFunc(targets(), func(t target) bool {
		return !o.take.MatchString(t.name) || t.name == other && o.other == ""
	})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run() error {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.network != "" {
		return runPass(ctx, o)
	}
	return compare(ctx, o)
}

func parseFlags() (o options, err error) {
	profile := flag.String("profile", "short", "short (some twelve minutes) or full")
	only := flag.String("only", "", "measure the scenarios whose names match this pattern")
	take := flag.String("targets", "", "compare the servers whose names match this pattern")
	flag.IntVar(&o.rounds, "rounds", 0, "how often each server has its turn; 0 is what the profile says")
	flag.DurationVar(&o.turn, "turn", 0, "how long a turn on a hot server is; 0 is what the profile says")
	flag.BoolVar(&o.anew, "anew", false, "start hot servers anew for each round: one process differs from the next by some percent")
	flag.StringVar(&o.out, "out", "bench/results", "directory of the results")
	flag.StringVar(&o.fixture, "fixture", "", "directory of the images, some 1.8 GB; empty is in the user's cache")
	flag.IntVar(&o.serverCore, "server-core", 0, "the core of the servers")
	flag.IntVar(&o.clientCore, "client-core", 1, "the core of the clients and of the registry")
	flag.IntVar(&o.blobs, "blobs", 0, "blobs of the largest start; 0 is what the profile says")
	flag.StringVar(&o.pprof, "pprof", "", "write CPU profiles of the mirror to this directory, one for each scenario")
	flag.StringVar(&o.network, "network", "", "for the process of a pass")
	flag.StringVar(&o.scratch, "scratch", "", "for the process of a pass; else where servers keep their data, empty is the temporary directory")
	flag.StringVar(&o.program, "program", "", "compare this mirror; empty builds one")
	flag.StringVar(&o.other, "other", "", "compare this mirror too")
	flag.Parse()
	var errs [3]error
	o.only, errs[0] = regexp.Compile(*only)
	o.take, errs[1] = regexp.Compile(*take)
	errs[2] = o.complete(*profile)
	return o, errors.Join(errs[:]...)
}

// complete fills in what the profile decides.
func (o *options) complete(profile string) error {
	rounds, turn, blobs := 3, 500*time.Millisecond, 100_000
	switch profile {
	case "short":
	case "full":
		o.full, rounds, turn, blobs = true, 7, 3*time.Second, 1_000_000
	default:
		return fmt.Errorf("no profile is called %q: it is short or full", profile)
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.turn == 0 {
		o.turn = turn
	}
	if o.blobs == 0 {
		o.blobs = blobs
	}
	if o.fixture != "" {
		return nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("find a place for the images: %w (name one with -fixture)", err)
	}
	o.fixture = filepath.Join(cache, "mirror-bench")
	return nil
}

// compare measures, and writes what came of it.
func compare(ctx context.Context, o options) (err error) {
	if err := o.checkTools(); err != nil {
		return err
	}
	if _, err := makeFixtures(o.fixture); err != nil {
		return err
	}
	if o.scratch, err = os.MkdirTemp(o.scratch, "mirror-compare-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.scratch)) }()
	if err := os.Chmod(o.scratch, 0o755); err != nil {
		return err
	}
	if err := o.build(ctx); err != nil {
		return err
	}
	r, err := newReport(ctx, o)
	if err != nil {
		return err
	}
	for _, network := range networks() {
		figures, err := o.child(ctx, network)
		r.Figures = append(r.Figures, figures...)
		if err != nil {
			return fmt.Errorf("network %s: %w", network, errors.Join(err, r.write(o.out)))
		}
	}
	if o.only.MatchString(startScenario) {
		if r.Start, err = o.starts(ctx); err != nil {
			return err
		}
	}
	return r.write(o.out)
}

// runPass is the process of a pass.
func runPass(ctx context.Context, o options) (err error) {
	if err := enterNetwork(ctx, o.network); err != nil {
		return err
	}
	s, err := newStand(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	p := &pass{options: o, stand: s, out: json.NewEncoder(os.Stdout), log: os.Stderr}
	return p.run(ctx)
}
