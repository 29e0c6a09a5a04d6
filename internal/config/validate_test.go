package config_test

import (
	"errors"
	"strings"
	"testing"

	"mirror/internal/config"
)

func TestDefaultIsValid(t *testing.T) {
	if err := config.Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesKey(t *testing.T) {
	f := func(change func(*config.Config), wantKey, wantMessage string) {
		t.Helper()
		cfg := config.Default()
		change(&cfg)
		var invalid *config.Error
		if !errors.As(cfg.Validate(), &invalid) {
			t.Errorf("%s: got %v, want an *Error", wantKey, cfg.Validate())
			return
		}
		got := invalid.Problems[0]
		if got.Key != wantKey || !strings.Contains(got.Message, wantMessage) || len(invalid.Problems) != 1 {
			t.Errorf("got %q, want only %s: ... %s ...", invalid, wantKey, wantMessage)
		}
	}
	f(func(c *config.Config) { c.Server.Listen = "5000" }, "server.listen", "host:port")
	f(func(c *config.Config) { c.Server.TLS.Key = "key.pem" }, "server.tls", "certificate and key")
	f(func(c *config.Config) { c.Server.TLS.ClientCA = "ca.pem" }, "server.tls", "client_ca")
	f(func(c *config.Config) { c.Admin.Listen = "localhost" }, "admin.listen", "host:port")
	f(func(c *config.Config) { c.Cache.Dir = "" }, "cache.dir", "name a directory")
	f(func(c *config.Config) { c.Cache.MaxSize = 1 }, "cache.max_size", "at least 16MiB")
	f(func(c *config.Config) { c.Cache.Sync = "never" }, "cache.sync", "always or lazy")
	f(func(c *config.Config) { c.Cache.Memory.MaxSize = 1 }, "cache.memory.max_blob", "at most")
	f(func(c *config.Config) { c.Upstreams = nil }, "upstreams", "empty")
	f(func(c *config.Config) { c.Upstreams[1].Default = true }, "upstreams[1].default", "keep one")
	f(func(c *config.Config) { c.Upstreams[2].Registry = "Quay.io" }, "upstreams[2].registry", "lower-case")
	f(func(c *config.Config) { c.Upstreams[0].Endpoints[0] = "registry-1.docker.io" }, "upstreams[0].endpoints[0]", "https://")
	f(func(c *config.Config) { c.Upstreams[0].Credentials.Username = "me" }, "upstreams[0].credentials.password_file", "missing")
	f(func(c *config.Config) { c.Peers.Listen = "10.0.0.1:5002" }, "peers.secret_file", "name a file")
	f(func(c *config.Config) { c.Peers.Join = []string{"seed.example"} }, "peers.join", "set peers.listen")
	f(func(c *config.Config) { c.Peers.Listen, c.Peers.Join = "localhost:5002", []string{"a", "b:c"} }, "peers.join[1]", "host:port")
	f(func(c *config.Config) { c.Log.Level = "trace" }, "log.level", "debug, info, warn or error")
	f(func(c *config.Config) { c.Log.Format = "xml" }, "log.format", "text or json")
}

func TestListenersMustDiffer(t *testing.T) {
	f := func(server, admin string, want bool) {
		t.Helper()
		cfg := config.Default()
		cfg.Server.Listen, cfg.Admin.Listen = server, admin
		err := cfg.Validate()
		if got := err == nil; got != want {
			t.Errorf("server.listen %s with admin.listen %s: %v", server, admin, err)
		}
	}
	f("127.0.0.1:5000", "127.0.0.1:5000", false)
	f("127.0.0.1:5000", "localhost:5000", false)
	f("127.0.0.1:5000", "[::]:5000", false)
	f(":5000", "127.0.0.1:5000", false)
	f(":5000", "0.0.0.0:5000", false)
	f("127.0.0.1:0", "127.0.0.1:0", true)
	f("127.0.0.1:5000", "127.0.0.2:5000", true)
	f("10.0.0.1:5000", "127.0.0.1:5000", true)
	f(":5000", ":5001", true)
}

func TestPeersNeedPortsOfTheirOwn(t *testing.T) {
	f := func(listen, transfer, wantKey string) {
		t.Helper()
		cfg := config.Default()
		cfg.Peers.Listen, cfg.Peers.Transfer = listen, transfer
		var invalid *config.Error
		switch err := cfg.Validate(); {
		case wantKey == "" && err != nil:
			t.Errorf("peers.listen %s with peers.transfer %s: %v", listen, transfer, err)
		case wantKey != "" && (!errors.As(err, &invalid) || invalid.Problems[0].Key != wantKey):
			t.Errorf("peers.listen %s with peers.transfer %s: got %v, want a problem of %s", listen, transfer, err, wantKey)
		}
	}
	f("127.0.0.1:5002", "", "")
	f("127.0.0.1:5001", "", "peers.listen")
	f("127.0.0.1:4999", "", "peers.transfer")
	f("127.0.0.1:5002", "127.0.0.1:5000", "peers.transfer")
	f("127.0.0.1:5002", "127.0.0.1:5002", "peers.transfer")
}

func TestEndpointMustNotBeTheMirror(t *testing.T) {
	f := func(listen, endpoint string, want bool) {
		t.Helper()
		cfg := config.Default()
		cfg.Server.Listen = listen
		cfg.Upstreams[0].Endpoints[0] = endpoint
		cfg.Upstreams[1].Hosts = []string{"ghcr.mirror.example"}
		err := cfg.Validate()
		if got := err == nil; got != want {
			t.Errorf("server.listen %s with endpoint %s: %v", listen, endpoint, err)
		}
	}
	f("127.0.0.1:5000", "http://127.0.0.1:5000", false)
	f("127.0.0.1:5000", "http://localhost:5000/path", false)
	f(":5000", "http://[::1]:5000", false)
	f(":443", "https://ghcr.mirror.example", false)
	f(":80", "http://GHCR.mirror.example", false)
	f("127.0.0.1:5000", "http://127.0.0.1:5001", true)
	f("127.0.0.1:5000", "http://127.0.0.2:5000", true)
	f(":5000", "https://ghcr.mirror.example", true)
	f(":5000", "http://registry.example:5000", true)
}
