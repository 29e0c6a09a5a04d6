package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"mirror/bench/origin"
	"mirror/internal/oci"
)

// server is a target that runs, with data of its own.
type server struct {
	target
	place
	process *exec.Cmd
	client  *http.Client
	ended   chan struct{} // closed when the process has ended
	failed  error         // how; set before ended is closed
}

const (
	startsWithin = 20 * time.Second
	stopsWithin  = 20 * time.Second
)

// start starts a target on an empty directory and waits until it serves what it should.
func (s *stand) start(ctx context.Context, t target, p place) (*server, error) {
	var err error
	if p.Dir, err = os.MkdirTemp(s.scratch, "server-"); err != nil {
		return nil, err
	}
	if p.Address, p.Admin, err = freeAddresses(); err != nil {
		return nil, err
	}
	words, err := t.configure(p)
	if err != nil {
		return nil, err
	}
	v := &server{target: t, place: p, client: s.clientFor(p.Secure), ended: make(chan struct{})}
	v.process = exec.CommandContext(ctx, "taskset", append([]string{"-c", strconv.Itoa(s.serverCore)}, words...)...)
	v.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	v.process.Cancel = func() error { return syscall.Kill(-v.process.Process.Pid, syscall.SIGKILL) }
	log, err := os.Create(filepath.Join(p.Dir, "output"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	v.process.Stdout, v.process.Stderr = log, log
	if err := v.process.Start(); err != nil {
		return nil, err
	}
	go func() { v.failed = v.process.Wait(); close(v.ended) }()
	if err := v.awaitReady(ctx, s.image("tiny")); err != nil {
		said := v.said() // before its directory goes
		return nil, errors.Join(fmt.Errorf("start %s: %w", t.name, err), said, v.stop())
	}
	return v, nil
}

// freeAddresses returns two addresses of loopback that nobody listens at.
func freeAddresses() (first, second string, err error) {
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer a.Close()
	b, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer b.Close()
	return a.Addr().String(), b.Addr().String(), nil
}

// clientFor returns a client for what is checked, not measured.
func (s *stand) clientFor(secure bool) *http.Client {
	transport := &http.Transport{ReadBufferSize: 1 << 20, DisableKeepAlives: true}
	if secure {
		transport.TLSClientConfig = s.clientTLS()
	}
	return &http.Client{Transport: transport}
}

func (s *stand) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS13, ServerName: "127.0.0.1"}
}

// url is the address of a path.
func (v *server) url(path string) string {
	if v.Secure {
		return "https://" + v.Address + path
	}
	return "http://" + v.Address + path
}

// awaitReady asks for a manifest until it comes.
func (v *server) awaitReady(ctx context.Context, tiny *origin.Image) error {
	deadline := time.Now().Add(startsWithin)
	for {
		err := v.check(ctx, tiny.ManifestPath(origin.Tag), tiny.Manifest)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-v.ended:
			return fmt.Errorf("it has ended: %w", errors.Join(v.failed, err))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// check asks for content and compares it with its digest.
func (v *server) check(ctx context.Context, path string, want oci.Digest) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url(path), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", origin.ManifestType)
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	hash := want.Hash()
	if _, err := io.CopyBuffer(struct{ io.Writer }{hash}, resp.Body, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !want.Matches(hash) {
		return fmt.Errorf("%s: content is not that of %s", path, want)
	}
	return nil
}

// pull has the server hold an image, checking what comes. Some keep what was asked for again, so it may be asked for times.
func (v *server) pull(ctx context.Context, i *origin.Image, times int) error {
	for range times {
		for _, reference := range []string{origin.Tag, i.Manifest.String()} {
			if err := v.check(ctx, i.ManifestPath(reference), i.Manifest); err != nil {
				return fmt.Errorf("pull %s from %s: %w", i.Repository, v.name, err)
			}
		}
		for n, d := range i.Layers {
			if err := v.check(ctx, i.LayerPath(n), d); err != nil {
				return fmt.Errorf("pull %s from %s: %w", i.Repository, v.name, err)
			}
		}
	}
	return nil
}

// stop ends the server and removes its data. One that does not end in time is killed with its children.
func (v *server) stop() error {
	pid := v.process.Process.Pid
	_ = v.process.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-v.ended:
	case <-time.After(stopsWithin):
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // the group is this server's own; it is empty when all went well
	<-v.ended
	return os.RemoveAll(v.Dir)
}

// said returns what a server wrote before it was stopped, as an error.
func (v *server) said() error {
	text, err := os.ReadFile(filepath.Join(v.Dir, "output"))
	if err != nil || len(text) == 0 {
		return nil // it said nothing, or nobody can tell
	}
	return fmt.Errorf("it said: %s", text)
}
