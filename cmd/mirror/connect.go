package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mirror/internal/config"
)

// reachTimeout bounds the question to one endpoint.
const reachTimeout = 10 * time.Second

// tryStart tries what a start would try and what it would need soon after, and returns everything that went wrong. It
// leaves nothing behind but the data directory.
func tryStart(ctx context.Context, cfg config.Config) error {
	return errors.Join(
		tryDirectory(cfg.Cache.Dir),
		tryListen("server.listen", cfg.Server.Listen),
		tryListen("admin.listen", cfg.Admin.Listen),
		tryCertificate(cfg),
		tryPeers(ctx, cfg),
		tryUpstreams(ctx, cfg),
	)
}

// tryDirectory makes the data directory, as a start does, and writes a file into it.
func tryDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cache.dir: %w", err)
	}
	probe, err := os.CreateTemp(dir, "check-config-*")
	if err != nil {
		return fmt.Errorf("cache.dir: %w", err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("cache.dir: %w", err)
	}
	return nil
}

func tryListen(key, address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %w: stop the program that has it (a running mirror is one), or change the key", key, err)
	}
	return ln.Close()
}

// tryCertificate reads the server's identity.
func tryCertificate(cfg config.Config) error {
	files := cfg.Server.TLS
	if files.Certificate == "" {
		return nil
	}
	_, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		err = fmt.Errorf("server.tls: %w", err)
	}
	if files.ClientCA == "" {
		return err
	}
	_, errCA := readPool(x509.NewCertPool(), "server.tls.client_ca", files.ClientCA)
	return errors.Join(err, errCA)
}

// tryPeers reads the secret, opens the ports, and looks the seeds up. Whether anybody is there is no fault: the first node of a
// cluster is alone.
func tryPeers(ctx context.Context, cfg config.Config) error {
	if !cfg.Peers.Enabled() {
		return nil
	}
	errs := []error{tryListen("peers.listen", cfg.Peers.Listen), tryListen("peers.transfer", cfg.Peers.TransferAddress())}
	if err := cfg.Peers.TrySecret(); err != nil {
		errs = append(errs, fmt.Errorf("peers.secret_file: %w", err))
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	for i, seed := range cfg.Peers.Join {
		host, _, err := net.SplitHostPort(seed)
		if err != nil {
			host = seed
		}
		if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
			errs = append(errs, fmt.Errorf("peers.join[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// readPool adds the certificates of a file to a pool.
func readPool(pool *x509.CertPool, key, path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", key, path)
	}
	return pool, nil
}

// tryUpstreams asks all upstreams at the same time, so that one that hangs does not hold up the others. One that is offline
// is not asked, nor is anybody for its secret: a start would not either.
func tryUpstreams(ctx context.Context, cfg config.Config) error {
	errs := make([]error, len(cfg.Upstreams))
	var group sync.WaitGroup
	for i := range cfg.Upstreams {
		if !cfg.Upstreams[i].Offline {
			group.Go(func() { errs[i] = tryUpstream(ctx, cfg, i) })
		}
	}
	group.Wait()
	return errors.Join(errs...)
}

func tryUpstream(ctx context.Context, cfg config.Config, i int) error {
	up, key := cfg.Upstreams[i], fmt.Sprintf("upstreams[%d].", i)
	var errs []error
	for _, one := range up.Identities() {
		errs = append(errs,
			tryFile(key+one.Key+".password_file", one.PasswordFile),
			tryFile(key+one.Key+".docker_config", one.DockerConfig),
			tryHelper(key+one.Key+".helper", one.Helper),
		)
	}
	return errors.Join(append(errs, trySignIn(ctx, cfg, i), tryEndpoints(ctx, cfg, i))...)
}

// trySignIn asks the clouds that the configuration names for their credentials.
func trySignIn(ctx context.Context, cfg config.Config, i int) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	err := cfg.Upstreams[i].TrySignIn(ctx)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var errs []error
	for _, err := range joined.Unwrap() {
		errs = append(errs, fmt.Errorf("upstreams[%d].%w", i, err))
	}
	return errors.Join(errs...)
}

// tryHelper looks for the program that knows the secret. It does not ask the program, which may want a terminal.
func tryHelper(key, name string) error {
	if name == "" {
		return nil
	}
	if _, err := exec.LookPath("docker-credential-" + name); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// tryFile reads a file that holds a secret, unless there is none.
func tryFile(key, path string) error {
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if strings.TrimSpace(string(content)) == "" {
		return fmt.Errorf("%s: %s is empty", key, path)
	}
	return nil
}

// tryEndpoints asks every endpoint of an upstream for /v2/. That a registry which serves nobody without signing in has no
// credentials is a fault too.
func tryEndpoints(ctx context.Context, cfg config.Config, i int) error {
	up, key := cfg.Upstreams[i], fmt.Sprintf("upstreams[%d].", i)
	client, err := newClient(key, up.CAFile, up.ClientCertificate, up.ClientKey)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	advice, required := up.SignInAdvice()
	var errs []error
	for j, endpoint := range up.Endpoints {
		status, err := ping(ctx, client, endpoint)
		if err == nil && status == http.StatusUnauthorized && required {
			err = fmt.Errorf("answers 401 to a mirror without credentials: %s", advice)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%sendpoints[%d]: %w", key, j, err))
		}
	}
	return errors.Join(errs...)
}

// newClient returns a client that trusts the system's certificates, and those of a file when there is one, and shows a
// certificate when there is one. It follows no redirect: /v2/ is answered by the registry itself.
func newClient(key, caFile, certificate, private string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if caFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
		if transport.TLSClientConfig.RootCAs, err = readPool(pool, key+"ca_file", caFile); err != nil {
			return nil, err
		}
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, private)
		if err != nil {
			return nil, fmt.Errorf("%sclient_certificate: %w", key, err)
		}
		transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, Timeout: reachTimeout, CheckRedirect: stay}, nil
}

// ping asks for /v2/ and returns the status. A registry answers 200, or 401 to somebody it wants to know; anything else is
// no registry.
func ping(ctx context.Context, client *http.Client, endpoint string) (status int, err error) {
	target, err := url.JoinPath(endpoint, "v2/")
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusUnauthorized {
		return 0, fmt.Errorf("GET %s: got %s, want 200 or 401: is it a registry?", target, response.Status)
	}
	return response.StatusCode, nil
}
