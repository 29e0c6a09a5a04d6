package signin_test

import (
	"errors"
	"testing"
	"time"

	"mirror/internal/upstream/signin"
	"mirror/internal/upstream/signin/signintest"
)

const (
	acrHost  = "example.azurecr.io"
	audience = "https://containerregistry.azure.net"
)

func TestAzure(t *testing.T) {
	ids := map[string]string{"AZURE_TENANT_ID": signintest.Tenant, "AZURE_CLIENT_ID": signintest.ClientID}
	f := func(name, kind string, setUp func(t *testing.T, url string) (signin.Azure, map[string]string)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			azure := signintest.NewAzure(t, audience)
			config, env := setUp(t, azure.URL)
			source := config.Source(azure.URL+"/", acrHost, platform(t, env))
			fetched(t, source, azure.Accepts, 3*time.Hour)
			if azure.Count(kind) != 1 || azure.Count("exchange") != 1 {
				t.Errorf("asked %+v", azure.Requests())
			}
			// Lives are told by the token itself, so a clock that is wrong changes nothing.
			azure.SetClock(-5 * time.Hour)
			fetched(t, source, azure.Accepts, 3*time.Hour)
		})
	}
	f("managed identity", "metadata", func(_ *testing.T, url string) (signin.Azure, map[string]string) {
		return signin.Azure{MetadataEndpoint: url, ClientID: signintest.ClientID}, nil
	})
	f("client secret", "directory", func(t *testing.T, url string) (signin.Azure, map[string]string) {
		return signin.Azure{
			Authority: url, Tenant: signintest.Tenant, ClientID: signintest.ClientID, ClientSecretFile: written(t, signintest.ClientSecret+"\n"),
		}, nil
	})
	f("workload identity", "directory", func(t *testing.T, url string) (signin.Azure, map[string]string) {
		return signin.Azure{}, map[string]string{
			"AZURE_AUTHORITY_HOST": url + "/", "AZURE_FEDERATED_TOKEN_FILE": written(t, signintest.FederatedToken),
			"AZURE_TENANT_ID": ids["AZURE_TENANT_ID"], "AZURE_CLIENT_ID": ids["AZURE_CLIENT_ID"],
		}
	})
}

func TestRefusalsOfAzure(t *testing.T) {
	azure := signintest.NewAzure(t, audience)
	secret := signin.Azure{Authority: azure.URL, Tenant: signintest.Tenant, ClientID: signintest.ClientID, ClientSecretFile: written(t, signintest.ClientSecret)}
	wrong := secret
	wrong.ClientSecretFile = written(t, "wrong~secret")
	nobody := signin.Azure{FederatedTokenFile: written(t, signintest.FederatedToken)}
	f := func(config signin.Azure, kind string, status int, want string, temporary bool) {
		t.Helper()
		azure.Refuse(kind, status)
		defer azure.Refuse(kind, 0)
		err := failed(t, config.Source(azure.URL, acrHost, platform(t, nil)), func() []string { return append(azure.Secrets(), "wrong~secret") }, want)
		if errors.Is(err, signin.ErrUnavailable) != temporary {
			t.Errorf("%s %d: temporary %v: %v", kind, status, !temporary, err)
		}
	}
	f(secret, "exchange", 401, "give the role AcrPull", false)
	f(secret, "exchange", 404, "404", false)
	f(secret, "exchange", 503, "503", true)
	f(secret, "directory", 401, "access_denied", false)
	f(wrong, "", 0, "AADSTS7000215", false)
	f(nobody, "", 0, "set tenant and client_id", false)
	f(signin.Azure{MetadataEndpoint: azure.URL}, "metadata", 400, "assign a managed identity", false)
	f(signin.Azure{ClientSecretFile: "/nonexistent/secret"}, "", 0, "read client_secret_file", false)
	f(signin.Azure{ClientSecretFile: written(t, "two\nlines")}, "", 0, "more than one line", false)
	f(signin.Azure{ClientSecretFile: written(t, "\n")}, "", 0, "is empty", false)
}
