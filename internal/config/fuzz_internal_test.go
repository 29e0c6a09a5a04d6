package config

import "testing"

// FuzzLoad throws text at the decoder: it must answer with a valid configuration or an error, and never panic.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "---", "a: 1", "server: {listen: \":5000\"}", "cache:\n  max_size: 50GiB\n", "upstreams:\n  - registry: docker.io\n",
		"log: &a {level: info}\npeers: *a", "<<: {a: b}", "? [a]\n: b", "!!map {}", "- - - x", "{", "[1, 2", "\t", "\"\\x", "a: |\n  b",
		"server:\n  drain_timeout: 1e9", "cache: {max_size: .inf}", "upstreams: [{limits: {requests: 0x10}}]", "\xff\xfe", "%YAML 9\n---\n",
	} {
		f.Add([]byte(seed), "log.level=debug")
	}
	f.Add([]byte("a"), "upstreams.0.endpoints=[*a]")
	f.Add([]byte("a"), "upstreams[0].hosts[0=x")
	f.Add([]byte("a"), "=")
	f.Fuzz(func(t *testing.T, content []byte, assignment string) {
		cfg, err := load("fuzz.yaml", content, []string{assignment})
		if err != nil {
			return
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("loaded without an error, but: %v", err)
		}
	})
}
