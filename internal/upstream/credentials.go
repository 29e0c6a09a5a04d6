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
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// credentialLife is how long what a file or helper said is used without asking again: a helper is a process, and
	// some ask a cloud.
	credentialLife = time.Minute
	// credentialFault is how long a failure to read is remembered, so that a crowd does not wait for one broken helper
	// after the other.
	credentialFault = 5 * time.Second
	// helperTimeout bounds a helper. It must fit into the time that a token exchange has.
	helperTimeout = 5 * time.Second
	// maxCredential bounds what a file or helper may hold, in bytes.
	maxCredential = 1 << 20
)

// credential is what the mirror shows to a registry. The zero value is none.
type credential struct {
	username string
	password string
	// identity is a refresh token, which only a token service takes (Docker calls it identity token).
	identity string
}

func (c credential) none() bool { return c == credential{} }

// basic returns the value of an Authorization header.
func (c credential) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.username+":"+c.password))
}

// credentials finds the credential of one registry and remembers it for a short while.
type credentials struct {
	config   Credentials
	registry string

	mu    sync.Mutex // held while a file is read or a helper runs, so that a crowd starts one helper
	known credential
	fault error // why there is no credential, when the last reading failed
	until time.Time
}

// configured reports whether there are credentials at all.
func (c *credentials) configured() bool { return c.config != Credentials{} }

// get returns the credential, or none for an anonymous registry. What cannot be read is an ErrUnauthorized.
func (c *credentials) get(ctx context.Context) (credential, error) {
	if !c.configured() {
		return credential{}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.known, c.fault
	}
	found, err := c.read(ctx)
	if err == nil {
		c.known, c.fault, c.until = found, nil, time.Now().Add(credentialLife)
		return found, nil
	}
	c.known, c.fault = credential{}, fmt.Errorf("%w: %w", ErrUnauthorized, err)
	if ctx.Err() == nil {
		c.until = time.Now().Add(credentialFault)
	}
	return credential{}, c.fault
}

// forget makes the next get read again, because the upstream refused what is known, or the operator said so.
func (c *credentials) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.fault, c.until = credential{}, nil, time.Time{}
}

func (c *credentials) read(ctx context.Context) (credential, error) {
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
	password, _, _ := bytes.Cut(text, []byte("\n"))
	return credential{username: c.config.Username, password: strings.TrimSuffix(string(password), "\r")}, nil
}

// serverName is the name under which Docker's tools keep the credential of a registry.
func (c *credentials) serverName() string {
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

func (c *credentials) fromDockerConfig(ctx context.Context) (credential, error) {
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
func (c *credentials) names(key string) bool {
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

// runHelper asks docker-credential-<name> for the credential of a server, in the protocol of Docker's helpers: the
// server's name on standard input, JSON on standard output. What the helper prints is never quoted, as it may hold the
// secret.
func runHelper(ctx context.Context, name, server string) (credential, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	program := "docker-credential-" + name
	command := exec.CommandContext(ctx, program, "get")
	command.Stdin = strings.NewReader(server)
	command.WaitDelay = time.Second
	out, err := command.Output()
	if err != nil {
		return credential{}, fmt.Errorf("run %s get for %s: %w", program, server, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Secret == "" {
		return credential{}, fmt.Errorf("run %s get for %s: the answer holds no secret", program, server)
	}
	if answer.Username == "<token>" {
		return credential{identity: answer.Secret}, nil
	}
	return credential{username: answer.Username, password: answer.Secret}, nil
}
