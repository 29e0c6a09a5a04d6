package signin_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mirror/internal/upstream/signin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// platform returns a platform with this environment, and none of the process's.
func platform(t *testing.T, env map[string]string) signin.Platform {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return signin.Platform{Cloud: transport.RoundTrip, Registry: transport.RoundTrip, Getenv: func(key string) string { return env[key] }}
}

// written returns the name of a new file with this content.
func written(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// fetched fetches a credential that must be accepted, with about the life that is expected.
func fetched(t *testing.T, source signin.Source, accepts func(username, password string) bool, life time.Duration) {
	t.Helper()
	grant, err := source(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	if !accepts(grant.Credential.Username, grant.Credential.Password) {
		t.Errorf("user %s: the registry would not take the password", grant.Credential.Username)
	}
	if off := (grant.Life - life).Abs(); off > time.Minute {
		t.Errorf("good for %v, want %v", grant.Life, life)
	}
}

// failed fetches a credential in vain. The error must say want, and none of the secrets, which are asked for when it is
// over.
func failed(t *testing.T, source signin.Source, secrets func() []string, want string) error {
	t.Helper()
	_, err := source(t.Context())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error with %q", err, want)
		return err
	}
	for _, secret := range secrets() {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("a secret is in the error: %v", err)
		}
	}
	return err
}

// these returns secrets that are known from the beginning.
func these(secrets ...string) func() []string { return func() []string { return secrets } }
