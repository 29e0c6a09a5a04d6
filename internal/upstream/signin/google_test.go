package signin_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mirror/internal/upstream/signin"
	"mirror/internal/upstream/signin/signintest"
)

func TestGoogle(t *testing.T) {
	google := signintest.NewGoogle(t)
	key := written(t, string(google.KeyFile()))
	f := func(name string, config signin.Google, env map[string]string, kind string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			before := google.Count(kind)
			fetched(t, config.Source(platform(t, env)), google.Accepts, time.Hour)
			if google.Count(kind) != before+1 {
				t.Errorf("%s was not asked", kind)
			}
		})
	}
	f("metadata service", signin.Google{MetadataEndpoint: google.URL}, nil, "metadata")
	f("metadata host in the environment", signin.Google{}, map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(google.URL, "http://")}, "metadata")
	f("key file", signin.Google{KeyFile: key, TokenEndpoint: google.URL + "/token"}, nil, "token")
	f("key file in the environment", signin.Google{TokenEndpoint: google.URL + "/token"}, map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": key}, "token")
}

// TestClockOfGoogle: a claim of the wrong time of day is refused, and made again with the time that the answer tells.
func TestClockOfGoogle(t *testing.T) {
	for ahead, want := range map[time.Duration]int{2 * time.Hour: 3, -2 * time.Hour: 3, 40 * time.Second: 2, -40 * time.Second: 2} {
		google := signintest.NewGoogle(t)
		google.SetClock(ahead)
		source := signin.Google{KeyFile: written(t, string(google.KeyFile())), TokenEndpoint: google.URL + "/token"}.Source(platform(t, nil))
		for range 2 {
			fetched(t, source, google.Accepts, time.Hour)
		}
		if n := google.Count("token"); n != want {
			t.Errorf("%v ahead: %d requests for two tokens, want %d", ahead, n, want)
		}
	}
}

func TestRefusalsOfGoogle(t *testing.T) {
	google, other := signintest.NewGoogle(t), signintest.NewGoogle(t)
	key := written(t, string(google.KeyFile()))
	f := func(config signin.Google, kind string, status int, want string, temporary bool) {
		t.Helper()
		google.Refuse(kind, status)
		defer google.Refuse(kind, 0)
		err := failed(t, config.Source(platform(t, nil)), func() []string { return append(google.Secrets(), other.Secrets()...) }, want)
		if errors.Is(err, signin.ErrUnavailable) != temporary {
			t.Errorf("%s %d: temporary %v: %v", kind, status, !temporary, err)
		}
	}
	withKey := func(file string) signin.Google {
		return signin.Google{KeyFile: file, TokenEndpoint: google.URL + "/token"}
	}
	f(signin.Google{MetadataEndpoint: google.URL}, "metadata", 404, "the machine has no service account", false)
	f(signin.Google{MetadataEndpoint: google.URL}, "metadata", 403, "403", false)
	f(withKey(key), "token", 500, "500", true)
	f(withKey(key), "token", 400, "access_denied", false)
	f(withKey(written(t, string(other.KeyFile()))), "", 0, "invalid_grant: Invalid JWT Signature.", false)
	f(withKey("/nonexistent/key.json"), "", 0, "read key_file", false)
	f(withKey(written(t, "s3cret")), "", 0, "is not JSON", false)
	f(withKey(written(t, `{"type":"authorized_user","refresh_token":"s3cret"}`)), "", 0, "is not the key of a service account", false)
	f(withKey(written(t, `{"type":"service_account","client_email":"a@b","private_key":"s3cret"}`)), "", 0, "no usable client_email and RSA private_key", false)
	f(signin.Google{KeyFile: key}, "", 0, "token_uri without TLS", false)
}
