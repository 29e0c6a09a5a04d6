package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"mirror/internal/config"
	"mirror/internal/units"
)

func TestSet(t *testing.T) {
	f := func(assignment string, change func(*config.Config)) {
		t.Helper()
		got, err := config.Load("", []string{assignment})
		if err != nil {
			t.Errorf("%s: %v", assignment, err)
			return
		}
		want := config.Default()
		change(&want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", assignment, got, want)
		}
	}
	f("server.listen=:5002", func(c *config.Config) { c.Server.Listen = ":5002" })
	f("server.listen=[::1]:5002", func(c *config.Config) { c.Server.Listen = "[::1]:5002" })
	f("server.drain_timeout=1m", func(c *config.Config) { c.Server.DrainTimeout = time.Minute })
	f("cache.dir=/srv/a=b c", func(c *config.Config) { c.Cache.Dir = "/srv/a=b c" })
	f("cache.memory={max_size: 1GiB}", func(c *config.Config) { c.Cache.Memory.MaxSize = units.GiB })
	f("cache.memory.max_blob=0", func(c *config.Config) { c.Cache.Memory.MaxBlob = 0 })
	f("peers.share_tags=false", func(c *config.Config) { c.Peers.ShareTags = false })
	f("upstreams.1.limits.connections=8", func(c *config.Config) { c.Upstreams[1].Limits.Connections = 8 })
	f("upstreams[1].hosts=[quay.example, other.example]", func(c *config.Config) {
		c.Upstreams[1].Hosts = []string{"quay.example", "other.example"}
	})
	f("upstreams.0.endpoints.0=http://127.0.0.1:5005", func(c *config.Config) {
		c.Upstreams[0].Endpoints[0] = "http://127.0.0.1:5005"
	})
	f("upstreams=[{registry: docker.io, default: true, endpoints: [\"http://127.0.0.1:5001\"]}]", func(c *config.Config) {
		c.Upstreams = c.Upstreams[:1]
		c.Upstreams[0].Endpoints[0] = "http://127.0.0.1:5001"
	})
}

func TestSetLastOneWins(t *testing.T) {
	cfg, err := config.Load("", []string{"log.level=debug", "log.level=warn"})
	if err != nil || cfg.Log.Level != "warn" {
		t.Errorf("got %q, %v, want warn", cfg.Log.Level, err)
	}
}

func TestSetProblems(t *testing.T) {
	f := func(assignment, want string) {
		t.Helper()
		_, err := config.Load("", []string{assignment})
		if err == nil {
			t.Errorf("%s was accepted", assignment)
			return
		}
		if got := err.Error(); !strings.HasPrefix(got, "--set "+assignment+": ") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want the flag and %q", assignment, got, want)
		}
	}
	f("server.listen", "want KEY=VALUE")
	f("=x", "unknown key")
	f("server.port=5000", "server.port: unknown key, want one of: listen, tls, drain_timeout")
	f("server.listen.port=5000", "unknown key: the one above it holds a single value")
	f("upstreams.99.default=true", "upstreams[99].default: unknown key: the list above it has 8 entries")
	f("upstreams.first.default=true", "unknown key: the list above it has 8 entries")
	f("cache.max_size=lots", `cache.max_size: got "lots", want a size`)
	f("peers.share_tags=yes", `got "yes", want true or false`)
	f("upstreams.0.limits.requests=many", `got "many", want a whole number`)
	f("upstreams=docker.io", `upstreams: got "docker.io", want a list`)
	f("upstreams=[{registry: docker.io, port: 1}]", "upstreams[0].port: unknown key")
	f("upstreams=[{", "upstreams: not YAML")
	f("upstreams=", "upstreams: the list is empty")
	f("log={level: debug}}", "log: not YAML")
	// What is wrong only in combination is blamed on the flag as well.
	f("log.level=loud", `log.level: got "loud"`)
	f("server.listen=5000", "server.listen:")
	f("admin.listen=:5000", "which server.listen (127.0.0.1:5000) takes already")
}
