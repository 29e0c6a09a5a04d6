package signin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Google says how to sign in to Google Artifact Registry and the gcr.io names. The zero value finds everything by itself:
// the key file that GOOGLE_APPLICATION_CREDENTIALS names, else the metadata service of the machine or cluster.
type Google struct {
	// KeyFile is the JSON key of a service account. Empty means GOOGLE_APPLICATION_CREDENTIALS, or the metadata service.
	KeyFile string `yaml:"key_file"`
	// TokenEndpoint is the URL that turns a signed key into a token. Empty means the one in the key file.
	TokenEndpoint string `yaml:"token_endpoint"`
	// MetadataEndpoint is the base URL of the metadata service. Empty means http://metadata.google.internal.
	MetadataEndpoint string `yaml:"metadata_endpoint"`
}

const (
	// googleScope is what Artifact Registry asks for. What may be read is decided by the account's roles.
	googleScope = "https://www.googleapis.com/auth/cloud-platform"
	// longestGoogle bounds what is believed about a token's life. Real ones last an hour.
	longestGoogle = 12 * time.Hour
	// googleUser is the user name that goes with a token.
	googleUser = "oauth2accesstoken"
)

// google is a Source for Google's registries.
type google struct {
	config   Google
	platform Platform
	clock    clock
}

// Source returns what signs in to Google's registries.
func (c Google) Source(p Platform) Source {
	g := &google{config: c, platform: p}
	return g.fetch
}

func (g *google) fetch(ctx context.Context) (Grant, error) {
	if file := orDefault(g.config.KeyFile, g.platform.Getenv("GOOGLE_APPLICATION_CREDENTIALS")); file != "" {
		return g.fromKey(ctx, file)
	}
	return g.fromMetadata(ctx)
}

// fromMetadata asks for a token of the account that the machine, or the Kubernetes service account, stands for.
func (g *google) fromMetadata(ctx context.Context) (Grant, error) {
	base := g.config.MetadataEndpoint
	if host := g.platform.Getenv("GCE_METADATA_HOST"); base == "" && host != "" {
		base = "http://" + host
	}
	base = strings.TrimRight(orDefault(base, "http://metadata.google.internal"), "/")
	a, err := askMetadata(ctx, g.platform.Cloud, question{
		method: http.MethodGet, url: base + "/computeMetadata/v1/instance/service-accounts/default/token",
		header: map[string]string{"Metadata-Flavor": "Google"},
	})
	if err != nil {
		return Grant{}, fmt.Errorf("there is no key_file, and the metadata service does not answer: %w", err)
	}
	if a.status == http.StatusNotFound {
		return Grant{}, fmt.Errorf("%w: the machine has no service account: attach one, or set key_file", a.refusal("", ""))
	}
	return googleGrant(a)
}

// fromKey signs a claim with the key of a service account and trades it for a token.
func (g *google) fromKey(ctx context.Context, file string) (Grant, error) {
	key, err := readServiceAccount(file)
	if err != nil {
		return Grant{}, err
	}
	target := orDefault(g.config.TokenEndpoint, key.TokenURI, "https://oauth2.googleapis.com/token")
	if g.config.TokenEndpoint == "" && !strings.HasPrefix(target, "https://") {
		return Grant{}, fmt.Errorf("read key_file: %s names a token_uri without TLS: set token_endpoint if that is meant", file)
	}
	a, claim, err := g.trade(ctx, key, target)
	if err != nil {
		return Grant{}, err
	}
	// A claim of the wrong time of day is refused in the same words as a withdrawn key.
	if a.status == http.StatusBadRequest && g.clock.learn(a.date) {
		if a, claim, err = g.trade(ctx, key, target); err != nil {
			return Grant{}, err
		}
	}
	return googleGrant(a, claim)
}

// trade sends a claim, and returns it too, as it must not be repeated anywhere.
func (g *google) trade(ctx context.Context, key serviceAccount, target string) (a answer, claim string, err error) {
	if claim, err = key.claim(orDefault(key.TokenURI, target), g.clock.now()); err != nil {
		return answer{}, "", err
	}
	a, err = ask(ctx, g.platform.Cloud, post(target, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {claim},
	}))
	return a, claim, err
}

// googleGrant reads a token out of an answer of either service.
func googleGrant(a answer, secrets ...string) (Grant, error) {
	token, life, err := readOAuth(a, secrets...)
	if err != nil {
		return Grant{}, err
	}
	return Grant{Credential: Credential{Username: googleUser, Password: token}, Life: min(life, longestGoogle)}, nil
}
