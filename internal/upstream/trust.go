package upstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// trust is whom a connection believes, and who it says that we are. It is made from files and never changed.
type trust struct {
	roots       *x509.CertPool   // nil for those of the system
	certificate *tls.Certificate // nil for none
	files       [3][]byte        // what it was made from, to notice a change
}

// readTrust reads the files that a configuration names.
func readTrust(c Config) (t trust, err error) {
	for i, file := range [3]struct{ key, name string }{
		{"ca_file", c.CAFile}, {"client_certificate", c.ClientCertificate}, {"client_key", c.ClientKey},
	} {
		if file.name == "" {
			continue
		}
		if t.files[i], err = os.ReadFile(file.name); err != nil {
			return trust{}, fmt.Errorf("read %s: %w", file.key, err)
		}
	}
	if t.roots, err = trustedRoots(c.CAFile, t.files[0]); err != nil {
		return trust{}, err
	}
	if c.ClientCertificate == "" {
		return t, nil
	}
	pair, err := tls.X509KeyPair(t.files[1], t.files[2])
	if err != nil {
		return trust{}, fmt.Errorf("read client_certificate %s with client_key: %w", c.ClientCertificate, err)
	}
	t.certificate = &pair
	return t, nil
}

// trustedRoots returns the system's certificates and those of a file, or nil for the system's alone.
func trustedRoots(name string, pem []byte) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("load the system's certificates: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read ca_file %s: no PEM certificate in it", name)
	}
	return roots, nil
}

// equal reports whether both were made from the same bytes.
func (t trust) equal(other trust) bool {
	for i := range t.files {
		if !bytes.Equal(t.files[i], other.files[i]) {
			return false
		}
	}
	return true
}

// config returns the settings of a transport that remembers so many TLS sessions.
func (t trust) config(sessions int) *tls.Config {
	config := &tls.Config{RootCAs: t.roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(sessions)}
	if t.certificate != nil {
		config.Certificates = []tls.Certificate{*t.certificate}
	}
	return config
}

// reloadTrust reads the certificates again, and replaces the connections when they have changed. What cannot be read
// leaves everything as it was.
func (r *Registry) reloadTrust() error {
	fresh, err := readTrust(r.config)
	if err != nil {
		return fmt.Errorf("upstream %s: %w", r.name, err)
	}
	old := r.wire.Load()
	if fresh.equal(old.trust) {
		return nil
	}
	r.wire.Store(r.newWire(fresh))
	old.close()
	return nil
}
