package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mirror/internal/upstream/upstreamtest"
)

// serving is a running "mirror serve".
type serving struct {
	t       *testing.T
	base    string // of the registry API
	admin   string // of the admin listener
	process *os.Process
	exited  chan int
	log     string // the file that standard error goes to
}

// serve starts the program and waits until it is ready.
func serve(t *testing.T, args ...string) *serving {
	t.Helper()
	listen, admin := freeAddress(t), freeAddress(t)
	args = append([]string{"serve", "--set", "server.listen=" + listen, "--set", "admin.listen=" + admin}, args...)
	cmd, _, _ := command(t, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the program has its own descriptor
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &serving{t: t, base: "http://" + listen, admin: "http://" + admin, process: cmd.Process, exited: make(chan int, 1), log: log.Name()}
	go func() {
		_ = cmd.Wait() // the exit code says it all
		s.exited <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	s.until("ready", func() bool { return s.readiness() == http.StatusOK })
	return s
}

// readiness returns the status of /readyz, 0 when nobody answers.
func (s *serving) readiness() int {
	response, err := http.Get(s.admin + "/readyz")
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

func (s *serving) isDraining() bool { return s.readiness() == http.StatusServiceUnavailable }

// freeAddress returns a loopback address that nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// until asks again and again, and gives up when the program has ended.
func (s *serving) until(what string, done func() bool) {
	s.t.Helper()
	for !done() {
		select {
		case code := <-s.exited:
			s.t.Fatalf("waiting until %s: the program ended with %d\n%s", what, code, s.logged())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *serving) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// logged returns what the program has logged so far.
func (s *serving) logged() string {
	s.t.Helper()
	content, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

// ended waits for the end of the program and compares its exit code.
func (s *serving) ended(want int) {
	s.t.Helper()
	if got := <-s.exited; got != want {
		s.t.Errorf("exit code %d, want %d\n%s", got, want, s.logged())
	}
}

// upstreamOf makes a registry the only upstream.
func upstreamOf(origin *upstreamtest.Registry) string {
	return fmt.Sprintf("upstreams=[{registry: docker.io, default: true, endpoints: [%q]}, {registry: off.example, offline: true}]", origin.URL)
}

func TestServeDrainsOnSignal(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			origin := upstreamtest.New(t)
			// More than the buffers between the two hold, so that the transfer is in flight until the client reads.
			layer := origin.AddImage("library/debian", "12", 32<<20).Layers[0]
			s := serve(t, "--set", "cache.dir="+t.TempDir(), "--set", upstreamOf(origin))

			response, err := http.Get(s.base + "/v2/library/debian/blobs/" + layer.Digest.String())
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			s.signal(signal)
			s.until("draining", s.isDraining)
			if body, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(body, layer.Bytes) {
				t.Errorf("the transfer in flight got %d of %d bytes, %v", len(body), len(layer.Bytes), err)
			}
			s.ended(0)
		})
	}
}

// TestSecondSignalStopsAtOnce has a transfer that would hold the drain for ever.
func TestSecondSignalStopsAtOnce(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("library/debian", "12", 4<<20).Layers[0]
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 2 << 20})
	s := serve(t, "--set", "cache.dir="+t.TempDir(), "--set", upstreamOf(origin), "--set", "server.drain_timeout=1h")

	response, err := http.Get(s.base + "/v2/library/debian/blobs/" + layer.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	s.signal(syscall.SIGTERM)
	s.until("draining", s.isDraining)
	s.signal(syscall.SIGTERM)
	s.ended(1)
}

// TestHangUpReloads changes the configuration of a running mirror twice: to one that is wrong, and to a right one.
func TestHangUpReloads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mirror.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log: {level: info}\n")
	s := serve(t, "--config", file, "--set", "cache.dir="+t.TempDir())

	write("log: {level: loud}\n")
	s.signal(syscall.SIGHUP)
	s.until("the error is logged", func() bool { return strings.Contains(s.logged(), "keeping the old one") })

	write("log: {level: debug}\ncache: {max_size: 1GiB}\n")
	s.signal(syscall.SIGHUP)
	s.until("the reload is logged", func() bool { return strings.Contains(s.logged(), "msg=\"reloaded") })
	if got := s.logged(); !strings.Contains(got, "restart to apply") {
		t.Errorf("nothing says that the size needs a restart:\n%s", got)
	}
	s.signal(syscall.SIGTERM)
	s.ended(0)
	if got := s.logged(); !strings.Contains(got, "level=DEBUG") {
		t.Errorf("the level did not change:\n%s", got)
	}
}
