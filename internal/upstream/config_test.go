package upstream_test

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/upstream"
	"mirror/internal/upstream/signin"
)

func TestDefaultConfigs(t *testing.T) {
	configs := upstream.DefaultConfigs()
	if err := upstream.ValidateAll(configs); err != nil {
		t.Fatal(err)
	}
	set, err := upstream.New(configs, "v", "id", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	var names []string
	for _, r := range set.All() {
		names = append(names, r.Name())
		if !r.Anonymous() || !r.Available() || !r.Allows("library/x") || r.BlobConnections() != 4 {
			t.Errorf("%s is not open as it should be", r.Name())
		}
		if want := (upstream.Freshness{FreshFor: time.Minute, StaleFor: 168 * time.Hour, MissingFor: 30 * time.Second}); !reflect.DeepEqual(r.Freshness(), want) {
			t.Errorf("%s: %+v, want %+v", r.Name(), r.Freshness(), want)
		}
	}
	want := "docker.io ghcr.io quay.io registry.k8s.io gcr.io mcr.microsoft.com public.ecr.aws registry.gitlab.com"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if r, ok := set.Default(); !ok || r.Name() != "docker.io" || r.Health().Endpoints[0].URL != "https://registry-1.docker.io" {
		t.Errorf("default is %v", r)
	}
}

func TestLookup(t *testing.T) {
	configs := append(upstream.DefaultConfigs(), upstream.Config{Registry: "reg.example:5000", Hosts: []string{"mirror.example", "other.example:8443"}})
	set, err := upstream.New(configs, "v", "id", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	name := func(r *upstream.Registry, ok bool) string {
		if !ok {
			return ""
		}
		return r.Name()
	}
	lookup := func(in, want string) {
		t.Helper()
		if got := name(set.Lookup(in)); got != want {
			t.Errorf("Lookup(%q) is %q, want %q", in, got, want)
		}
	}
	lookup("docker.io", "docker.io")
	lookup("Index.Docker.io", "docker.io")
	lookup("registry-1.docker.io:443", "docker.io")
	lookup("registry.hub.docker.com", "docker.io")
	lookup("GHCR.io:443", "ghcr.io")
	lookup("ghcr.io:80", "")
	lookup("reg.example:5000", "reg.example:5000")
	lookup("reg.example", "")
	lookup("127.0.0.1", "")
	lookup("", "")
	host := func(in, want string) {
		t.Helper()
		if got := name(set.Host(in)); got != want {
			t.Errorf("Host(%q) is %q, want %q", in, got, want)
		}
	}
	host("mirror.example", "reg.example:5000")
	host("Mirror.Example:5000", "reg.example:5000")
	host("other.example:8443", "reg.example:5000")
	host("other.example", "")
	host("docker.io", "")
	host("[::1]:80", "")
}

func TestValidate(t *testing.T) {
	f := func(c upstream.Config, want ...string) {
		t.Helper()
		if c.Registry == "" {
			c.Registry = "reg.example"
		}
		err := c.Validate()
		if len(want) == 0 {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			return
		}
		if err == nil {
			t.Errorf("%+v: no error, want %v", c, want)
			return
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(want) {
			t.Errorf("%+v: got %d problems, want %d:\n%v", c, len(lines), len(want), err)
			return
		}
		for i, key := range want {
			if !strings.HasPrefix(lines[i], key+": ") {
				t.Errorf("problem %q is not about %s", lines[i], key)
			}
		}
	}
	named := func(name string) upstream.Config { return upstream.Config{Registry: name} }
	at := func(endpoint string) upstream.Config { return upstream.Config{Endpoints: []string{endpoint}} }
	with := func(c upstream.Credentials) upstream.Config { return upstream.Config{Credentials: c} }

	f(named("ghcr.io"))
	f(named("localhost:5000"))
	f(named("10.0.0.1:5000"))
	f(named("a-b.example"))
	f(named("index.docker.io"), "registry")
	f(named("Ghcr.io"), "registry")
	f(named("ghcr.io:443"), "registry")
	f(named("https://ghcr.io"), "registry")
	f(named("ghcr.io/org"), "registry")
	f(named("ghcr.io:"), "registry")
	f(named("ghcr.io:70000"), "registry")
	f(named("-a.example"), "registry")
	f(named("a..example"), "registry")

	f(at("https://reg.example"))
	f(at("http://127.0.0.1:5001"))
	f(at("https://reg.example/some/path/"))
	f(at("http://[::1]:5000"))
	f(at("reg.example"), "endpoints[0]")
	f(at("reg.example:5000"), "endpoints[0]")
	f(at("ftp://reg.example"), "endpoints[0]")
	f(at("https://user:pw@reg.example"), "endpoints[0]")
	f(at("https://reg.example?x=y"), "endpoints[0]")
	f(at("https://reg.example#x"), "endpoints[0]")
	f(at("https://"), "endpoints[0]")
	f(at("https://reg.example:0"), "endpoints[0]")
	f(at("https://reg.example:x"), "endpoints[0]")

	f(with(upstream.Credentials{Username: "u", PasswordFile: "f"}))
	f(with(upstream.Credentials{Helper: "ecr-login"}))
	f(with(upstream.Credentials{Username: "u"}), "credentials.password_file")
	f(with(upstream.Credentials{PasswordFile: "f"}), "credentials.username")
	f(with(upstream.Credentials{Username: "u:p", PasswordFile: "f"}), "credentials.username")
	f(with(upstream.Credentials{Helper: "../evil"}), "credentials.helper")
	f(with(upstream.Credentials{Helper: "a", DockerConfig: "b"}), "credentials")

	ecr := func(registry string, c signin.ECR) upstream.Config {
		return upstream.Config{Registry: registry, Credentials: upstream.Credentials{ECR: &c}}
	}
	f(ecr("123456789012.dkr.ecr.eu-central-1.amazonaws.com", signin.ECR{}))
	f(ecr("public.ecr.aws", signin.ECR{}))
	f(ecr("images.example", signin.ECR{Region: "eu-west-1"}))
	f(ecr("images.example", signin.ECR{}), "credentials.ecr.region")
	f(ecr("images.example", signin.ECR{Region: "evil.example/"}), "credentials.ecr.region")
	f(ecr("public.ecr.aws", signin.ECR{Endpoint: "x", STSEndpoint: "ftp://x", ContainerEndpoint: "https://u@x", MetadataEndpoint: "http://x?y"}),
		"credentials.ecr.endpoint", "credentials.ecr.sts_endpoint", "credentials.ecr.container_endpoint", "credentials.ecr.metadata_endpoint")
	f(upstream.Config{Registry: "mirror.example", Endpoints: []string{"https://123456789012.dkr.ecr.eu-central-1.amazonaws.com"}, Credentials: upstream.Credentials{ECR: &signin.ECR{}}})
	f(with(upstream.Credentials{Google: &signin.Google{}}))
	f(with(upstream.Credentials{Google: &signin.Google{TokenEndpoint: "x"}}), "credentials.google.token_endpoint")
	f(with(upstream.Credentials{Azure: &signin.Azure{}}))
	f(with(upstream.Credentials{Azure: &signin.Azure{ClientSecretFile: "f", Tenant: "t", ClientID: "c"}}))
	f(with(upstream.Credentials{Azure: &signin.Azure{ClientSecretFile: "f", ClientID: "c"}}), "credentials.azure.tenant")
	f(with(upstream.Credentials{Azure: &signin.Azure{ClientSecretFile: "f", Tenant: "t"}}), "credentials.azure.client_id")
	f(with(upstream.Credentials{Azure: &signin.Azure{ClientSecretFile: "f", FederatedTokenFile: "g"}}), "credentials.azure")
	f(with(upstream.Credentials{Azure: &signin.Azure{}, Google: &signin.Google{}}), "credentials")
	f(with(upstream.Credentials{Helper: "a", Preemptive: true}))
	f(with(upstream.Credentials{Preemptive: true}), "credentials.preemptive")
	f(upstream.Config{ClientCertificate: "c", ClientKey: "k"})
	f(upstream.Config{ClientCertificate: "c"}, "client_key")
	f(upstream.Config{ClientKey: "k"}, "client_certificate")
	f(upstream.Config{TokenHosts: []string{"gitlab.example", "gitlab.example:8443"}})
	f(upstream.Config{TokenHosts: []string{"ok.example", "https://gitlab.example", "*"}}, "token_hosts[1]", "token_hosts[2]")

	alice, bob := upstream.Credentials{Username: "alice", PasswordFile: "a"}, upstream.Credentials{Helper: "pass"}
	several := func(all ...upstream.Credentials) upstream.Config { return upstream.Config{Accounts: all} }
	f(several(alice, bob))
	f(several(alice, upstream.Credentials{}), "accounts[1]")
	f(several(upstream.Credentials{Username: "u"}, upstream.Credentials{Helper: "../evil"}), "accounts[0].password_file", "accounts[1].helper")
	f(upstream.Config{Credentials: alice, Accounts: []upstream.Credentials{bob}}, "accounts")

	f(upstream.Config{Allow: []string{"library/*", "**"}, Deny: []string{"team/?x"}})
	f(upstream.Config{Allow: []string{"a", ""}, Deny: []string{"A"}}, "allow[1]", "deny[0]")
	f(upstream.Config{Hosts: []string{"ok.example", "Not OK"}}, "hosts[1]")
	f(upstream.Config{Tags: upstream.Freshness{FreshFor: -1}}, "tags.fresh_for")
	f(withRules(rule(time.Hour, []string{"v*", "R?_1"}, []string{"team/**"})))
	f(withRules(rule(time.Hour, nil, nil)), "tags.rules[0]")
	f(withRules(rule(upstream.Inherit, []string{"v*"}, nil)), "tags.rules[0]")
	f(withRules(rule(-1, []string{"v*", "a/b", ""}, []string{"A"})),
		"tags.rules[0].tags[1]", "tags.rules[0].tags[2]", "tags.rules[0].repositories[0]", "tags.rules[0].fresh_for")
	f(upstream.Config{Limits: upstream.Limits{Requests: -1}}, "limits.requests")
}

func withRules(rules ...upstream.TagRule) upstream.Config {
	return upstream.Config{Tags: upstream.Freshness{Rules: rules}}
}

func TestValidateNeverShowsSecrets(t *testing.T) {
	err := upstream.Config{Registry: "reg.example", Endpoints: []string{"https://user:s3cret@reg.example"}}.Validate()
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

func TestValidateAll(t *testing.T) {
	err := upstream.ValidateAll([]upstream.Config{
		{Registry: "a.example", Default: true, Hosts: []string{"m.example"}},
		{Registry: "b.example", Default: true, Hosts: []string{"m.example"}},
		{Registry: "a.example"},
		{Registry: "BAD", Allow: []string{"!"}},
	})
	want := []string{
		"upstreams[1].hosts[0]: ", "upstreams[1].default: ", "upstreams[2].registry: ", "upstreams[3].registry: ", "upstreams[3].allow[0]: ",
	}
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d problems, want %d:\n%v", len(lines), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("problem %q does not begin with %q", lines[i], want[i])
		}
	}
}

func TestAllows(t *testing.T) {
	f := func(allow, deny []string, name string, want bool) {
		t.Helper()
		set, err := upstream.New([]upstream.Config{{Registry: "reg.example", Allow: allow, Deny: deny}},
			"v", "id", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		if r, _ := set.Lookup("reg.example"); r.Allows(name) != want {
			t.Errorf("allow %v deny %v: Allows(%q) is %v", allow, deny, name, !want)
		}
	}
	f(nil, nil, "anything/at/all", true)
	f([]string{"library/*"}, nil, "library/debian", true)
	f([]string{"library/*"}, nil, "library/debian/slim", false)
	f([]string{"library/**"}, nil, "library/debian/slim", true)
	f([]string{"library/*"}, nil, "xlibrary/debian", false)
	f([]string{"a.b"}, nil, "axb", false)
	f([]string{"app-?"}, nil, "app-1", true)
	f([]string{"app-?"}, nil, "app-12", false)
	f(nil, []string{"**/secret"}, "team/secret", false)
	f([]string{"team/**"}, []string{"team/secret"}, "team/secret", false)
	f([]string{"team/**"}, []string{"team/secret"}, "team/open", true)
}

func TestCAFile(t *testing.T) {
	for name, file := range map[string]string{"missing": "/nonexistent/ca.pem", "no certificate": "config_test.go"} {
		_, err := upstream.New([]upstream.Config{{Registry: "reg.example", CAFile: file}},
			"v", "id", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), "ca_file") {
			t.Errorf("%s: got %v, want an error about ca_file", name, err)
		}
	}
}
