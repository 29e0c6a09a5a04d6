//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"
)

// registry is a running docker-registry with its own storage, in the part of an upstream.
type registry struct {
	*program
	addr string
}

// registryConfig is complete but for the section that turns token authentication on.
const registryConfig = `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
http: {addr: %q}
%s`

// startRegistry starts the open registry that holds the images of all scenarios. They change nothing in it.
func (s *suite) startRegistry() (*registry, error) {
	dir, err := os.MkdirTemp(s.dir, "registry")
	if err != nil {
		return nil, fmt.Errorf("create registry directory: %w", err)
	}
	r, err := launchRegistry(dir, "")
	if err != nil {
		return nil, err
	}
	s.keep(r.program)
	return r, nil
}

// launchRegistry starts a docker-registry with everything it needs in dir. The caller stops it.
func launchRegistry(dir, auth string) (*registry, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf(registryConfig, filepath.Join(dir, "data"), addr, auth)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write registry configuration: %w", err)
	}
	p, err := launch(dir, nil, "docker-registry", "serve", file)
	if err != nil {
		return nil, err
	}
	if err := awaitAnswer(p, "http://"+addr+"/v2/"); err != nil {
		p.stop()
		return nil, err
	}
	return &registry{program: p, addr: addr}, nil
}

// freeAddress returns a loopback address that was free a moment ago. Programs that cannot tell which port they chose
// are given it. It lies below the ports that the kernel gives to outgoing connections, so that none of them takes it
// before the program does, or while a registry is switched off.
func freeAddress() (string, error) {
	var last error
	for range 50 {
		ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if err == nil {
			return ln.Addr().String(), ln.Close()
		}
		last = err
	}
	return "", fmt.Errorf("find free port: %w", last)
}

// awaitAnswer waits until a program answers HTTP at all, for at most half a minute.
func awaitAnswer(p *program, url string) error {
	var last error
	for range 300 {
		_, err := fetch(context.Background(), oneShot(), url)
		if err == nil {
			return nil
		}
		last = err
		if code, ended := p.wait(100 * time.Millisecond); ended {
			return fmt.Errorf("%s ended with code %d instead of answering:\n%s", p.name, code, p.tail(20))
		}
	}
	return fmt.Errorf("wait for %s: %w\n%s", p.name, last, p.tail(20))
}
