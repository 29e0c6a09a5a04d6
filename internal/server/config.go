package server

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Config says where the registry API listens and how a connection is secured and drained.
type Config struct {
	// Listen is the host:port of the registry API. An empty host means every address of the machine.
	Listen string `yaml:"listen"`
	// TLS secures connections. Its zero value serves plain HTTP.
	TLS TLSConfig `yaml:"tls"`
	// DrainTimeout is how long transfers in flight get after a stop was asked for.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// TLSConfig names the files of the server's identity, each in PEM.
type TLSConfig struct {
	// Certificate is the file with the certificate chain. Empty switches TLS off.
	Certificate string `yaml:"certificate"`
	// Key is the file with the private key of the certificate.
	Key string `yaml:"key"`
	// ClientCA is the file with the authorities that client certificates must be signed by. Empty asks for none.
	ClientCA string `yaml:"client_ca"`
}

// Validate tells what is wrong with the values; it reads no file and opens no port.
func (c Config) Validate() error {
	return errors.Join(c.validateListen(), c.TLS.Validate(), c.validateDrainTimeout())
}

func (c Config) validateListen() error {
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen %q: write host:port, such as 127.0.0.1:5000", c.Listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen %q: the port must be a number from 0 to 65535", c.Listen)
	}
	return nil
}

func (c Config) validateDrainTimeout() error {
	if c.DrainTimeout < 0 {
		return fmt.Errorf("drain_timeout %v: must not be negative", c.DrainTimeout)
	}
	return nil
}

// Validate tells which file name is missing.
func (c TLSConfig) Validate() error {
	if (c.Certificate == "") != (c.Key == "") {
		return errors.New("tls: certificate and key belong together, set both or neither")
	}
	if c.ClientCA != "" && c.Certificate == "" {
		return errors.New("tls: client_ca needs a certificate and a key")
	}
	return nil
}
