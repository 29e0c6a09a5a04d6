package upstream

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	// credentialLife is how long what a file or helper said is used without asking again: a helper is a process, and
	// some ask a cloud.
	credentialLife = time.Minute
	// maxCredential bounds what a file or helper may hold, in bytes.
	maxCredential = 1 << 20
)

// localCredentials finds a credential on this machine: in a file, or by a helper.
type localCredentials struct {
	config   Credentials
	registry string
}

// source returns the machine's credential as a source. Files are cheap to read again, so that a new password counts with
// the first request that is refused; a helper is a process.
func (c localCredentials) source() *source {
	s := &source{fetch: func(ctx context.Context) (credential, time.Duration, error) {
		found, err := c.read(ctx)
		return found, credentialLife, err
	}}
	if c.config.Helper != "" {
		s.patience = credentialFault
	}
	return s
}

func (c localCredentials) read(ctx context.Context) (credential, error) {
	switch {
	case c.config.Helper != "":
		return runHelper(ctx, c.config.Helper, c.serverName())
	case c.config.DockerConfig != "":
		return c.fromDockerConfig(ctx)
	}
	text, err := readSecret(c.config.PasswordFile)
	if err != nil {
		return credential{}, fmt.Errorf("read password_file: %w", err)
	}
	return credential{username: c.config.Username, password: passwordIn(text)}, nil
}

// passwordIn returns the password that a file holds: its first line, or, when it is the JSON key of a Google service
// account, which is a password too (user _json_key), all of it.
func passwordIn(text []byte) string {
	if json.Valid(text) && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return string(bytes.TrimSpace(text))
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	return strings.TrimSuffix(string(first), "\r")
}

// serverName is the name under which Docker's tools keep the credential of a registry.
func (c localCredentials) serverName() string {
	if c.registry == dockerHub {
		return "https://index.docker.io/v1/"
	}
	return c.registry
}

func readSecret(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxCredential {
		return nil, fmt.Errorf("%s has %d bytes, which is no credential", name, info.Size())
	}
	return os.ReadFile(name)
}

// dockerConfig is what we use of Docker's config.json.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredHelpers map[string]string     `json:"credHelpers"`
	CredsStore  string                `json:"credsStore"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
}

func (c localCredentials) fromDockerConfig(ctx context.Context) (credential, error) {
	text, err := readSecret(c.config.DockerConfig)
	if err != nil {
		return credential{}, fmt.Errorf("read docker_config: %w", err)
	}
	var file dockerConfig
	if err := json.Unmarshal(text, &file); err != nil {
		// The decoder's message may quote the content.
		return credential{}, fmt.Errorf("docker_config %s is not JSON of Docker's form", c.config.DockerConfig)
	}
	for name, helper := range file.CredHelpers {
		if c.names(name) && validHelper(helper) {
			return runHelper(ctx, helper, name)
		}
	}
	for name, entry := range file.Auths {
		if found, err := entry.credential(); c.names(name) && (err != nil || !found.none()) {
			return found, err
		}
	}
	if file.CredsStore != "" && validHelper(file.CredsStore) {
		return runHelper(ctx, file.CredsStore, c.serverName())
	}
	return credential{}, fmt.Errorf("docker_config %s has no entry for %s: log in to it, or remove credentials", c.config.DockerConfig, c.registry)
}

// names reports whether a key of Docker's file, a host or a URL, means our registry.
func (c localCredentials) names(key string) bool {
	if u, err := url.Parse(key); err == nil && u.Host != "" {
		key = u.Host
	}
	host, _, _ := strings.Cut(key, "/")
	return normalise(host) == c.registry
}

func (a dockerAuth) credential() (credential, error) {
	found := credential{username: a.Username, password: a.Password, identity: a.IdentityToken}
	if a.Auth == "" {
		return found, nil
	}
	text, err := base64.StdEncoding.DecodeString(a.Auth)
	username, password, ok := strings.Cut(strings.TrimRight(string(text), "\x00"), ":")
	if err != nil || !ok {
		return credential{}, errors.New("docker_config has an auth entry that is not the base64 of user:password")
	}
	found.username, found.password = username, password
	return found, nil
}
