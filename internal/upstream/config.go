package upstream

import (
	"time"

	"mirror/internal/units"
	"mirror/internal/upstream/signin"
)

// Config describes one upstream registry.
type Config struct {
	// Registry is the name clients use: the host part of an image name, lower case, with the port when it is not 443.
	Registry string `yaml:"registry"`
	// Default makes this upstream answer requests that name no registry. At most one upstream has it.
	Default bool `yaml:"default"`
	// Endpoints are base URLs that hold the same. The first that is well is used; one that fails, or is much slower than
	// another, is asked last until it is well again. Empty means https://<registry>. http:// must be spelt out.
	Endpoints []string `yaml:"endpoints"`
	// Hosts are virtual host names under which the mirror answers for this registry.
	Hosts []string `yaml:"hosts"`
	// Credentials are what the mirror shows to this registry. Zero means anonymous.
	Credentials Credentials `yaml:"credentials"`
	// Accounts are several of them, in place of Credentials. Each has a rate limit of its own at the registry, and the one
	// with most left is used. They are taken to see the same repositories.
	Accounts []Credentials `yaml:"accounts"`
	// TokenHosts are hosts whose token services may see the credentials although they are outside the domain of the
	// endpoints, with a port or for any. Whether they are at private addresses does not matter.
	TokenHosts []string `yaml:"token_hosts"`
	// CAFile names a PEM file with certificates that are trusted beside those of the system.
	CAFile string `yaml:"ca_file"`
	// ClientCertificate names a PEM file with the certificate chain that the endpoints are shown, and no other host.
	ClientCertificate string `yaml:"client_certificate"`
	// ClientKey names a PEM file with the key of ClientCertificate.
	ClientKey string `yaml:"client_key"`
	// Offline keeps the mirror from asking this registry anything. What is held is served, whatever its age.
	Offline bool `yaml:"offline"`
	// Tags says how long a tag is believed.
	Tags Freshness `yaml:"tags"`
	// Prefetch lets the mirror fetch what a client that is pulling an image will ask for next.
	Prefetch bool `yaml:"prefetch"`
	// Limits bound what this registry is asked for.
	Limits Limits `yaml:"limits"`
	// Allow lists patterns of repositories that may be pulled; empty means all. "*" stands for any part of one name
	// component, "**" also for slashes, "?" for one character.
	Allow []string `yaml:"allow"`
	// Deny lists patterns of repositories that may not be pulled. It counts before Allow.
	Deny []string `yaml:"deny"`
}

// Credentials name where the secret for a registry is found. At most one of the forms is set. Secrets are read when they
// are needed and again when the upstream refuses them, so a file or helper may change them at any time.
type Credentials struct {
	// DockerConfig names a file in the format of Docker's config.json (auths, credHelpers and credsStore are used).
	DockerConfig string `yaml:"docker_config"`
	// Username goes together with PasswordFile.
	Username string `yaml:"username"`
	// PasswordFile names a file whose first line is the password or access token. A file that is JSON, such as the key of
	// a Google service account, is the password as a whole.
	PasswordFile string `yaml:"password_file"`
	// Helper is NAME of a program docker-credential-NAME in the PATH.
	Helper string `yaml:"helper"`
	// Preemptive shows the credentials to the endpoints before they ask.
	Preemptive bool `yaml:"preemptive"`
	// ECR, Google and Azure sign in to the registries of these clouds. Nil means not; the zero value finds everything by
	// itself.
	ECR    *signin.ECR    `yaml:"ecr"`
	Google *signin.Google `yaml:"google"`
	Azure  *signin.Azure  `yaml:"azure"`
}

// forms counts the forms of credentials that are set. None is anonymous.
func (c Credentials) forms() int {
	n := 0
	for _, set := range []bool{
		c.DockerConfig != "", c.Username != "" || c.PasswordFile != "", c.Helper != "",
		c.ECR != nil, c.Google != nil, c.Azure != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// Limits bound what one registry is asked for.
type Limits struct {
	// Connections is the most connections at a time to one host. Zero means the default.
	Connections int `yaml:"connections"`
	// BlobConnections is the most connections at a time for one blob, and never more than Connections. Zero means the
	// default.
	BlobConnections int `yaml:"blob_connections"`
	// Bandwidth bounds the bytes received per second, all transfers together. Zero means no limit.
	Bandwidth units.Rate `yaml:"bandwidth"`
	// Requests bounds the requests sent per second; a second's worth may go out at once. Zero means no limit.
	Requests int `yaml:"requests"`
}

// dockerHub is the name of Docker Hub in image names, and dockerHubAliases are other names people write for it.
const dockerHub = "docker.io"

var dockerHubAliases = []string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}

// DefaultConfigs returns the public registries that are mirrored when the configuration names none: all anonymous,
// docker.io the default.
func DefaultConfigs() []Config {
	hub := Config{Registry: dockerHub, Default: true, Endpoints: []string{"https://registry-1.docker.io"}}
	configs := []Config{hub}
	for _, registry := range []string{
		"ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "mcr.microsoft.com", "public.ecr.aws", "registry.gitlab.com",
	} {
		configs = append(configs, Config{Registry: registry})
	}
	for i := range configs {
		configs[i].Prefetch = Defaults().Prefetch
		configs[i] = configs[i].WithDefaults()
	}
	return configs
}

// Defaults returns what an upstream has that says nothing but its name.
func Defaults() Config {
	return Config{
		Prefetch: true,

		Tags:   Freshness{FreshFor: time.Minute, StaleFor: 168 * time.Hour, MissingFor: 30 * time.Second},
		Limits: Limits{Connections: 64, BlobConnections: 4},
	}
}

// WithDefaults returns c with every zero value that has a default filled in, those of Tags included. Switches stay as they
// are.
func (c Config) WithDefaults() Config {
	standard := Defaults()
	c.Tags.FreshFor = orDefault(c.Tags.FreshFor, standard.Tags.FreshFor)
	c.Tags.StaleFor = orDefault(c.Tags.StaleFor, standard.Tags.StaleFor)
	c.Tags.MissingFor = orDefault(c.Tags.MissingFor, standard.Tags.MissingFor)
	return c.Completed()
}

// Completed returns c with what cannot be zero filled in: the endpoint and the numbers of connections. A blob never
// takes more connections than there may be.
func (c Config) Completed() Config {
	standard := Defaults()
	if len(c.Endpoints) == 0 && c.Registry != "" {
		c.Endpoints = []string{defaultEndpoint(c.Registry)}
	}
	c.Limits.Connections = orDefault(c.Limits.Connections, standard.Limits.Connections)
	c.Limits.BlobConnections = orDefault(c.Limits.BlobConnections, standard.Limits.BlobConnections)
	c.Limits.BlobConnections = min(c.Limits.BlobConnections, max(c.Limits.Connections, 1))
	return c
}

// defaultEndpoint returns where a registry is reached that has no endpoint configured. Docker Hub's name in image
// names is not the host that speaks the protocol.
func defaultEndpoint(registry string) string {
	if registry == dockerHub {
		return "https://registry-1.docker.io"
	}
	return "https://" + registry
}

func orDefault[T comparable](value, standard T) T {
	var zero T
	if value == zero {
		return standard
	}
	return value
}
