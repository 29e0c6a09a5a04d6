package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Azure says how to sign in to an Azure container registry. The zero value finds everything by itself: the workload
// identity that AZURE_FEDERATED_TOKEN_FILE and its neighbours describe, else the machine's managed identity.
type Azure struct {
	// Tenant is the directory's id. Empty means AZURE_TENANT_ID.
	Tenant string `yaml:"tenant"`
	// ClientID is the id of the application or of the user-assigned identity. Empty means AZURE_CLIENT_ID, or the
	// identity that the machine has of its own.
	ClientID string `yaml:"client_id"`
	// ClientSecretFile is a file with the secret of the application. It needs Tenant and ClientID.
	ClientSecretFile string `yaml:"client_secret_file"`
	// FederatedTokenFile is a file with the token of a workload identity. Empty means AZURE_FEDERATED_TOKEN_FILE.
	FederatedTokenFile string `yaml:"federated_token_file"`
	// Audience is what the token is for. Empty means the registry's cloud.
	Audience string `yaml:"audience"`
	// Authority is the base URL of the directory. Empty means AZURE_AUTHORITY_HOST, or that of the registry's cloud.
	Authority string `yaml:"authority"`
	// MetadataEndpoint is the base URL of the metadata service. Empty means http://169.254.169.254.
	MetadataEndpoint string `yaml:"metadata_endpoint"`
}

const (
	// acrUser stands for a token in the place of a user name.
	acrUser = "00000000-0000-0000-0000-000000000000"
	// acrLife is what is believed of a refresh token that does not tell its end. Real ones last three hours.
	acrLife = time.Hour
)

// azure is a Source for one registry.
type azure struct {
	config   Azure
	endpoint string
	service  string
	cloud    azureCloud
	platform Platform
}

// azureCloud is what differs between the parts of the world.
type azureCloud struct{ authority, audience string }

// cloudOf tells the part of the world by a registry's name. The token is for registries and nothing else: one for the
// management of resources, which registries take as well unless their policy forbids it, could do more than pull.
func cloudOf(host string) azureCloud {
	switch {
	case strings.HasSuffix(host, ".azurecr.cn"):
		return azureCloud{"https://login.chinacloudapi.cn", "https://containerregistry.azure.cn"}
	case strings.HasSuffix(host, ".azurecr.us"):
		return azureCloud{"https://login.microsoftonline.us", "https://containerregistry.azure.us"}
	}
	return azureCloud{"https://login.microsoftonline.com", "https://containerregistry.azure.net"}
}

// Source returns what signs in to the registry at a base URL. registry is its name, a host.
func (c Azure) Source(endpoint, registry string, p Platform) Source {
	s := &azure{config: c, endpoint: strings.TrimRight(endpoint, "/"), service: registry, cloud: cloudOf(registry), platform: p}
	return s.fetch
}

func (s *azure) fetch(ctx context.Context) (Grant, error) {
	token, err := s.directoryToken(ctx)
	if err != nil {
		return Grant{}, fmt.Errorf("get a token of the directory: %w", err)
	}
	return s.trade(ctx, token)
}

// directoryToken proves who the mirror is, in the order of Azure's own tools.
func (s *azure) directoryToken(ctx context.Context) (string, error) {
	getenv := s.platform.Getenv
	if file := s.config.ClientSecretFile; file != "" {
		secret, err := readSecret("client_secret_file", file)
		if err != nil {
			return "", err
		}
		return s.fromDirectory(ctx, url.Values{"client_secret": {secret}}, secret)
	}
	if file := orDefault(s.config.FederatedTokenFile, getenv("AZURE_FEDERATED_TOKEN_FILE")); file != "" {
		proof, err := readSecret("federated_token_file", file)
		if err != nil {
			return "", err
		}
		return s.fromDirectory(ctx, url.Values{
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {proof},
		}, proof)
	}
	return s.fromMetadata(ctx)
}

// fromDirectory asks the directory for a token of an application. form holds the proof.
func (s *azure) fromDirectory(ctx context.Context, form url.Values, secret string) (string, error) {
	tenant := orDefault(s.config.Tenant, s.platform.Getenv("AZURE_TENANT_ID"))
	client := orDefault(s.config.ClientID, s.platform.Getenv("AZURE_CLIENT_ID"))
	if tenant == "" || client == "" {
		return "", errors.New("the tenant or client id is not known: set tenant and client_id, or AZURE_TENANT_ID and AZURE_CLIENT_ID")
	}
	form.Set("grant_type", "client_credentials")
	form.Set("client_id", client)
	form.Set("scope", strings.TrimRight(s.audience(), "/")+"/.default")
	authority := orDefault(s.config.Authority, s.platform.Getenv("AZURE_AUTHORITY_HOST"), s.cloud.authority)
	target := strings.TrimRight(authority, "/") + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
	a, err := ask(ctx, s.platform.Cloud, post(target, form))
	if err != nil {
		return "", err
	}
	token, _, err := readOAuth(a, secret)
	return token, err
}

// fromMetadata asks for a token of the machine's managed identity.
func (s *azure) fromMetadata(ctx context.Context) (string, error) {
	query := url.Values{"api-version": {"2018-02-01"}, "resource": {s.audience()}}
	if client := orDefault(s.config.ClientID, s.platform.Getenv("AZURE_CLIENT_ID")); client != "" {
		query.Set("client_id", client)
	}
	base := strings.TrimRight(orDefault(s.config.MetadataEndpoint, "http://169.254.169.254"), "/")
	a, err := askMetadata(ctx, s.platform.Cloud, question{
		method: http.MethodGet, url: base + "/metadata/identity/oauth2/token?" + query.Encode(),
		header: map[string]string{"Metadata": "true"},
	})
	if err != nil {
		return "", fmt.Errorf("there is no client_secret_file and no federated_token_file, and the metadata service does not answer: %w", err)
	}
	token, _, err := readOAuth(a)
	if a.status == http.StatusBadRequest {
		return "", fmt.Errorf("%w: assign a managed identity to the machine, and name it by client_id when it has several", err)
	}
	return token, err
}

func (s *azure) audience() string { return orDefault(s.config.Audience, s.cloud.audience) }

// trade gives a token of the directory to the registry for a refresh token of its own.
func (s *azure) trade(ctx context.Context, token string) (Grant, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {s.service}, "access_token": {token}}
	if tenant := orDefault(s.config.Tenant, s.platform.Getenv("AZURE_TENANT_ID")); tenant != "" {
		form.Set("tenant", tenant)
	}
	a, err := ask(ctx, s.platform.Registry, post(s.endpoint+"/oauth2/exchange", form))
	if err != nil {
		return Grant{}, err
	}
	if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
		return Grant{}, fmt.Errorf("%w: give the role AcrPull on the registry to the identity of the mirror", a.refusal("", ""))
	}
	if a.status != http.StatusOK {
		return Grant{}, a.refusal("", "")
	}
	var found struct {
		Token string `json:"refresh_token"`
	}
	if err := a.decode(&found); err != nil {
		return Grant{}, err
	}
	if found.Token == "" {
		return Grant{}, fmt.Errorf("read answer of %s: no refresh_token in it", a.from)
	}
	life := webTokenLife(found.Token)
	if life == 0 {
		life = acrLife
	}
	return Grant{Credential: Credential{Username: acrUser, Password: found.Token, Identity: found.Token}, Life: life}, nil
}
