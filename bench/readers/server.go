package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"

	"mirror/internal/config"
	"mirror/internal/node"
	"mirror/internal/units"
	"mirror/internal/upstream"
)

// serve runs a node until standard input ends. It prints the address of the node, once it serves.
func serve(o options) (err error) {
	if o.trace != "" {
		stop, err := profile(o.trace)
		if err != nil {
			return err
		}
		defer stop()
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := node.New(configFor(o), "bench", log)
	if err != nil {
		return err
	}
	if err := n.Start(context.Background()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close(context.Background())) }()
	fmt.Println(n.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func configFor(o options) config.Config {
	cfg := config.Default()
	cfg.Server.Listen, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Cache.Dir, cfg.Cache.MaxSize = o.dir, units.Bytes(2*o.size)+units.GiB
	up := upstream.Config{Registry: "docker.io", Default: true, Endpoints: []string{"http://" + o.address}}
	cfg.Upstreams = []upstream.Config{up.WithDefaults()}
	return cfg
}

// profile writes a CPU profile to path until stop is called.
func profile(path string) (stop func(), err error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close() // a profile that is not whole cannot be read, which shows
	}, nil
}
