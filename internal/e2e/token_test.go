//go:build e2e

package e2e_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// tokenServer gives out the tokens that a docker-registry with "auth: token" asks for: a right password opens every
// repository, no password those below "public/".
type tokenServer struct {
	url                string
	username, password string
	key                *rsa.PrivateKey
	certificate        []byte // of key, DER
	anonymous, named   atomic.Int64
}

const tokenService, tokenIssuer = "registry of the tests", "tokens of the tests"

// startTokenServer runs a token server with a key of its own for the length of a test.
func startTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	s := &tokenServer{username: "puller", password: rand.Text()}
	var err error
	if s.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: tokenIssuer},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	s.certificate, err = x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL + "/token"
	return s
}

// protectedRegistry runs a docker-registry that wants tokens of this server, for the length of a test.
func (s *tokenServer) protectedRegistry(t *testing.T) *registry {
	t.Helper()
	dir := tempDir(t)
	bundle := filepath.Join(dir, "tokens.pem")
	writeFile(t, bundle, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate})))
	auth := fmt.Sprintf("auth:\n  token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}\n",
		s.url, tokenService, tokenIssuer, bundle)
	r, err := launchRegistry(dir, auth)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// ServeHTTP answers a token request.
func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	username, password, given := r.BasicAuth()
	trusted := given && username == s.username && password == s.password
	if given && !trusted {
		http.Error(w, "wrong password", http.StatusUnauthorized)
		return
	}
	if trusted {
		s.named.Add(1)
	} else {
		s.anonymous.Add(1)
	}
	token, err := s.sign(username, granted(r.URL.Query()["scope"], trusted))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

// access is a permission as the registry's token format spells it.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// granted returns what a client may do of what it asks for.
func granted(scopes []string, trusted bool) []access {
	out := []access{}
	for _, scope := range scopes {
		parts := strings.Split(scope, ":")
		if len(parts) != 3 {
			continue
		}
		switch {
		case trusted:
			out = append(out, access{parts[0], parts[1], strings.Split(parts[2], ",")})
		case strings.HasPrefix(parts[1], "public/"):
			out = append(out, access{parts[0], parts[1], []string{"pull"}})
		}
	}
	return out
}

// push lets the test itself write to a repository, with a token that it need not ask for.
func (s *tokenServer) push(t *testing.T, repository string) remote.Option {
	t.Helper()
	token, err := s.sign("test", []access{{"repository", repository, []string{"pull", "push"}}})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return remote.WithTransport(bearer{token, transport})
}

// bearer adds a token to every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// sign makes a JSON web token that carries its certificate, which the registry knows as a root.
func (s *tokenServer) sign(subject string, allowed []access) (string, error) {
	now := time.Now()
	header, err := encodePart(map[string]any{
		"typ": "JWT", "alg": "RS256", "x5c": []string{base64.StdEncoding.EncodeToString(s.certificate)},
	})
	if err != nil {
		return "", err
	}
	claims, err := encodePart(map[string]any{
		"iss": tokenIssuer, "sub": subject, "aud": tokenService, "jti": rand.Text(), "access": allowed,
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(header + "." + claims))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return header + "." + claims + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func encodePart(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}
