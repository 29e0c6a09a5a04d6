package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// identity is the server's certificate and what it asks of clients, replaceable while it serves.
type identity struct {
	files   TLSConfig
	current atomic.Pointer[tls.Config]
}

// newIdentity reads the files. It returns nil when TLS is off.
func newIdentity(files TLSConfig) (*identity, error) {
	if files.Certificate == "" {
		return nil, nil
	}
	id := &identity{files: files}
	return id, id.reload()
}

// reload reads the files again. When any of them is bad the old ones stay in use.
func (id *identity) reload() error {
	pair, err := tls.LoadX509KeyPair(id.files.Certificate, id.files.Key)
	if err != nil {
		return fmt.Errorf("load certificate (server.tls.certificate, server.tls.key): %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		// The HTTP server speaks nothing newer, and a client that was promised HTTP/2 would fail.
		NextProtos: []string{"http/1.1"},
	}
	if id.files.ClientCA != "" {
		if config.ClientCAs, err = loadAuthorities(id.files.ClientCA); err != nil {
			return fmt.Errorf("load client authorities (server.tls.client_ca): %w", err)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	id.current.Store(config)
	return nil
}

func loadAuthorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New(file + " holds no certificate in PEM")
	}
	return pool, nil
}

// listen secures the connections of ln. Each handshake uses the files of the last good reload.
func (id *identity) listen(ln net.Listener) net.Listener {
	return tls.NewListener(ln, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return id.current.Load(), nil },
	})
}
