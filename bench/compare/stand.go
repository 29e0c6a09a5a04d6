package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"mirror/bench/origin"
	"mirror/internal/units"
)

// stand is what measurements need beside a server.
type stand struct {
	origin     *origin.Registry
	images     []*origin.Image
	fixture    string
	scratch    string // for the servers; removed at the end
	program    string // the mirror's binary
	other      string // another of them
	serverCore int
	turn       time.Duration // how long a hot measurement lasts
	roots      *x509.CertPool
	cert, key  string
}

const mb = 1_000_000

// fixtures lists the images. "typical" has layers as the images of a service have.
func fixtures() []*origin.Image {
	mixed := make([]int64, 40)
	for n := range mixed {
		mixed[n] = 8 << 20
	}
	return []*origin.Image{
		{Repository: "bench/tiny", Sizes: []int64{4 << 10}},
		{Repository: "bench/typical", Sizes: []int64{30 * mb, 60 * mb, 1 * mb, 5 * mb, 12 * mb}},
		{Repository: "bench/middle", Sizes: []int64{64 << 20}},
		{Repository: "bench/herd", Sizes: []int64{150 << 20}},
		{Repository: "bench/large", Sizes: []int64{1 << 30}},
		{Repository: "bench/mixed", Sizes: mixed},
	}
}

// makeFixtures makes what is not there of an earlier run.
func makeFixtures(dir string) ([]*origin.Image, error) {
	images := fixtures()
	for _, i := range images {
		if err := i.Make(dir); err != nil {
			return nil, fmt.Errorf("make fixture: %w", err)
		}
	}
	return images, nil
}

// newStand makes what a pass needs. Close it.
func newStand(o options) (s *stand, err error) {
	s = &stand{fixture: o.fixture, scratch: o.scratch, program: o.program, other: o.other, serverCore: o.serverCore, turn: o.turn}
	if s.images, err = makeFixtures(o.fixture); err != nil {
		return nil, err
	}
	if err := s.makeIdentity(); err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	s.origin, err = origin.Serve(o.fixture, origin.Link{})
	return s, err
}

func (s *stand) close() error { return s.origin.Close() }

// image returns an image by the last part of its name, which must be one of fixtures.
func (s *stand) image(name string) *origin.Image {
	for _, i := range s.images {
		if i.Repository == "bench/"+name {
			return i
		}
	}
	panic("BUG: no image " + name)
}

// place is where a server runs, but for what start decides.
func (s *stand) place(secure bool, cache units.Bytes) place {
	return place{Program: s.program, Other: s.other, Origin: s.origin.Address(), Fixture: s.fixture, Cache: cache, Secure: secure,
		Cert: s.cert, Key: s.key, Images: s.images}
}

// makeIdentity makes a certificate for loopback that all servers use and all clients trust: of the kind that costs a
// handshake least.
func (s *stand) makeIdentity() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return err
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(parsed)
	s.cert, s.key = filepath.Join(s.scratch, "cert.pem"), filepath.Join(s.scratch, "key.pem")
	return errors.Join(writePEM(s.cert, "CERTIFICATE", cert), writePEM(s.key, "PRIVATE KEY", private))
}

func writePEM(name, kind string, content []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600)
}
