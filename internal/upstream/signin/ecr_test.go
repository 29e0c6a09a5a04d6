package signin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mirror/internal/upstream/signin"
	"mirror/internal/upstream/signin/signintest"
)

const ecrHost = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

// keysInEnv is the simplest way to have keys.
var keysInEnv = map[string]string{"AWS_ACCESS_KEY_ID": signintest.KeyID, "AWS_SECRET_ACCESS_KEY": signintest.SecretKey}

// at sends everything to one fake.
func at(url string) signin.ECR {
	return signin.ECR{Endpoint: url, STSEndpoint: url, ContainerEndpoint: url, MetadataEndpoint: url}
}

// TestKeysOfAWS finds keys in every place, and nothing but the places that should be asked is asked.
func TestKeysOfAWS(t *testing.T) {
	profile := func(t *testing.T, name string) string {
		return written(t, "# keys\n["+name+"]\nregion = x\naws_access_key_id = "+signintest.KeyID+"\naws_secret_access_key="+signintest.SecretKey+"\n[other]\naws_access_key_id = wrong\n")
	}
	f := func(name, want string, setUp func(t *testing.T, url string) (signin.ECR, map[string]string)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			aws := signintest.NewAWS(t)
			config, env := setUp(t, aws.URL)
			fetched(t, config.Source(ecrHost, platform(t, env)), aws.Accepts, 12*time.Hour)
			var asked []string
			for _, request := range aws.Requests() {
				asked = append(asked, request.Kind)
			}
			if got := strings.Join(asked, " "); got != want {
				t.Errorf("asked %s, want %s", got, want)
			}
		})
	}
	f("environment", "ecr", func(_ *testing.T, url string) (signin.ECR, map[string]string) { return at(url), keysInEnv })
	f("web identity", "sts ecr", func(t *testing.T, url string) (signin.ECR, map[string]string) {
		return at(url), map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": written(t, signintest.WebIdentity+"\n"), "AWS_ROLE_ARN": signintest.Role}
	})
	f("shared file", "ecr", func(t *testing.T, url string) (signin.ECR, map[string]string) {
		return at(url), map[string]string{"AWS_SHARED_CREDENTIALS_FILE": profile(t, "default")}
	})
	f("profile", "ecr", func(t *testing.T, url string) (signin.ECR, map[string]string) {
		config := at(url)
		config.Profile, config.CredentialsFile = "mirror", profile(t, "mirror")
		return config, nil
	})
	f("container beside", "container ecr", func(_ *testing.T, url string) (signin.ECR, map[string]string) {
		return at(url), map[string]string{
			"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": signintest.ContainerPath, "AWS_CONTAINER_AUTHORIZATION_TOKEN": signintest.ContainerToken,
		}
	})
	f("pod identity", "container ecr", func(t *testing.T, url string) (signin.ECR, map[string]string) {
		return signin.ECR{Endpoint: url}, map[string]string{
			"AWS_CONTAINER_CREDENTIALS_FULL_URI":     url + signintest.ContainerPath,
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": written(t, signintest.ContainerToken+"\n"),
		}
	})
	f("instance", "imds-token imds imds ecr", func(t *testing.T, url string) (signin.ECR, map[string]string) {
		return at(url), map[string]string{"HOME": t.TempDir()}
	})
}

func TestPublicECR(t *testing.T) {
	aws := signintest.NewAWS(t)
	fetched(t, at(aws.URL).Source("public.ecr.aws", platform(t, keysInEnv)), aws.Accepts, 12*time.Hour)
	if aws.Count("ecr-public") != 1 || !strings.Contains(aws.Requests()[0].Header.Get("Authorization"), "/us-east-1/ecr-public/") {
		t.Errorf("asked %+v", aws.Requests())
	}
}

func TestRegistryOfAnotherAccountIsNamed(t *testing.T) {
	aws := signintest.NewAWS(t)
	fetched(t, at(aws.URL).Source(ecrHost+":443", platform(t, keysInEnv)), aws.Accepts, 12*time.Hour)
	if body := aws.Requests()[0].Body; body != `{"registryIds":["123456789012"]}` {
		t.Errorf("asked %s", body)
	}
}

// TestClockOfAWS: a clock that is wrong costs one refused request, once.
func TestClockOfAWS(t *testing.T) {
	for _, ahead := range []time.Duration{20 * time.Minute, -3 * time.Hour} {
		aws := signintest.NewAWS(t)
		aws.SetClock(ahead)
		source := at(aws.URL).Source(ecrHost, platform(t, keysInEnv))
		for range 2 {
			fetched(t, source, aws.Accepts, 12*time.Hour)
		}
		if n := aws.Count("ecr"); n != 3 {
			t.Errorf("%v ahead: %d requests for two passwords, want 3", ahead, n)
		}
	}
}

func TestWrongKeyIsNotTriedTwice(t *testing.T) {
	aws := signintest.NewAWS(t)
	env := map[string]string{"AWS_ACCESS_KEY_ID": signintest.KeyID, "AWS_SECRET_ACCESS_KEY": "wrong-secret", "AWS_SESSION_TOKEN": "wrong-session"}
	failed(t, at(aws.URL).Source(ecrHost, platform(t, env)), these("wrong-secret", "wrong-session"), "400 InvalidSignatureException: check the secret key")
	if n := aws.Count("ecr"); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestRefusalsOfAWS: every service on the way says no and repeats what it was sent.
func TestRefusalsOfAWS(t *testing.T) {
	f := func(kind string, status int, env map[string]string, host, want string, temporary bool) {
		t.Helper()
		aws := signintest.NewAWS(t)
		aws.Refuse(kind, status)
		err := failed(t, at(aws.URL).Source(host, platform(t, env)), aws.Secrets, want)
		if errors.Is(err, signin.ErrUnavailable) != temporary {
			t.Errorf("%s %d: temporary %v: %v", kind, status, !temporary, err)
		}
	}
	web := map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": written(t, signintest.WebIdentity), "AWS_ROLE_ARN": signintest.Role}
	container := map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": signintest.ContainerPath, "AWS_CONTAINER_AUTHORIZATION_TOKEN": signintest.ContainerToken}
	f("ecr", 400, keysInEnv, ecrHost, "allow ecr:GetAuthorizationToken", false)
	f("ecr", 400, web, ecrHost, "allow ecr:GetAuthorizationToken", false)
	f("ecr", 503, keysInEnv, ecrHost, "503", true)
	f("ecr", 429, keysInEnv, ecrHost, "429", true)
	f("ecr-public", 400, keysInEnv, "public.ecr.aws", "sts:GetServiceBearerToken", false)
	f("sts", 403, web, ecrHost, "assume "+signintest.Role, false)
	f("sts", 500, web, ecrHost, "500", true)
	f("container", 401, container, ecrHost, "401", false)
	f("imds-token", 403, nil, ecrHost, "403", false)
	f("imds", 404, nil, ecrHost, "the instance has no role", false)
	f("imds", 500, nil, ecrHost, "500", true)
}

// TestBrokenKeysAreNotPassedOver: who configured one identity does not want to be signed in as another.
func TestBrokenKeysAreNotPassedOver(t *testing.T) {
	f := func(want string, env map[string]string, change func(*signin.ECR)) {
		t.Helper()
		aws := signintest.NewAWS(t)
		config := at(aws.URL)
		if change != nil {
			change(&config)
		}
		failed(t, config.Source(ecrHost, platform(t, env)), these("x-secret"), want)
		if n := aws.Count("imds-token") + aws.Count("imds") + aws.Count("ecr"); n != 0 {
			t.Errorf("%d requests went on to the next place", n)
		}
	}
	absent := "/nonexistent/file"
	f("AWS_WEB_IDENTITY_TOKEN_FILE", map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": absent, "AWS_ROLE_ARN": signintest.Role}, nil)
	f("InvalidIdentityToken", map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": written(t, "x-secret"), "AWS_ROLE_ARN": signintest.Role}, nil)
	f("shared credentials file", nil, func(c *signin.ECR) { c.CredentialsFile = absent })
	f("profile [mirror]", map[string]string{"AWS_SHARED_CREDENTIALS_FILE": written(t, "[default]\naws_access_key_id=x-secret")}, func(c *signin.ECR) { c.Profile = "mirror" })
	f("neither https nor an address of this machine", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://attacker.example/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "x-secret"}, nil)
	f("AUTHORIZATION_TOKEN_FILE", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": absent}, nil)
	f("AWS_EC2_METADATA_DISABLED", map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, nil)
}

func TestNoCloudAnswers(t *testing.T) {
	p := platform(t, nil)
	p.Cloud = func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }
	f := func(source signin.Source, want string) {
		t.Helper()
		if err := failed(t, source, these(), want); !errors.Is(err, signin.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	f(signin.ECR{}.Source(ecrHost, p), "raise the metadata hop limit to 2")
	f(signin.Google{}.Source(p), "there is no key_file")
	f(signin.Azure{}.Source("https://example.azurecr.io", "example.azurecr.io", p), "there is no client_secret_file")
}

// TestRedirectsAreRefused: what is sent to a cloud arrives at the host that was meant, or nowhere.
func TestRedirectsAreRefused(t *testing.T) {
	reached := 0
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer thief.Close()
	cloud := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer cloud.Close()
	p := platform(t, map[string]string{
		"AWS_ACCESS_KEY_ID": signintest.KeyID, "AWS_SECRET_ACCESS_KEY": signintest.SecretKey,
		"AZURE_FEDERATED_TOKEN_FILE": written(t, signintest.FederatedToken),
	})
	failed(t, at(cloud.URL).Source(ecrHost, p), these(signintest.SecretKey), "answered 307")
	failed(t, signin.Google{MetadataEndpoint: cloud.URL}.Source(p), these(), "answered 307")
	failed(t, signin.Azure{Authority: cloud.URL, Tenant: "t", ClientID: "c"}.Source(cloud.URL, acrHost, p), these(signintest.FederatedToken), "answered 307")
	if reached != 0 {
		t.Errorf("%d requests were led elsewhere", reached)
	}
}
