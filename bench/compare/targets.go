package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"mirror/bench/origin"
	"mirror/internal/units"
)

// target is a server that is compared. A new one is a line in targets, and a file of configuration.
type target struct {
	name string
	// config is the file in the directory targets that makes its configuration, for a place; command starts it.
	config  string
	command string
	// secure: it can speak TLS. fills: it pulls through. bounded: its cache has a limit. small: it is only asked for requests
	// per second, because nothing else would show a difference.
	secure, fills, bounded, small bool
}

// baseline is the target that ratios are to.
const baseline = "nginx static"

const (
	// ours is the target that this repository builds, and other a build of it that is named with -other, such as the one
	// before a change.
	ours  = "mirror"
	other = "mirror, other"
)

func targets() []target {
	return []target{
		{name: ours, config: "mirror.yaml", command: "{{.Program}} serve --log-level warn --config {{.Config}}", secure: true, fills: true, bounded: true},
		{name: other, config: "mirror.yaml", command: "{{.Other}} serve --log-level warn --config {{.Config}}", secure: true, fills: true, bounded: true},
		{name: baseline, config: "nginx-static.conf", command: "nginx -p {{.Dir}} -c {{.Config}}", secure: true},
		{name: "nginx static, files kept open", config: "nginx-open.conf", command: "nginx -p {{.Dir}} -c {{.Config}}", secure: true, small: true},
		{name: "nginx proxy_cache", config: "nginx-proxy.conf", command: "nginx -p {{.Dir}} -c {{.Config}}", secure: true, fills: true, bounded: true},
		{name: "varnish", config: "varnish.vcl", command: "varnishd -F -j none -n {{.Dir}}/work -a {{.Address}} -f {{.Config}} " +
			"-s malloc,{{.CacheMiB}}M -p thread_pools=1", fills: true, bounded: true},
		{name: "docker-registry", config: "docker-registry.yaml", command: "docker-registry serve {{.Config}}", secure: true, fills: true},
	}
}

// place is what the configuration of a target is made from.
type place struct {
	Program string // the mirror's binary
	Other   string // another of them
	Dir     string // of this server alone
	Config  string // the file of configuration
	Address string // where it listens: host and port
	Admin   string // where it tells about itself, if it does
	Origin  string // where it pulls from: host and port
	Fixture string // the directory with the files of all images
	Cache   units.Bytes
	Secure  bool
	Cert    string
	Key     string
	Images  []*origin.Image
}

// CacheMiB is the limit of the cache for who wants a number.
func (p place) CacheMiB() int64 { return int64(p.Cache / units.MiB) }

// Host and Port are the halves of Origin.
func (p place) Host() string { return p.Origin[:strings.LastIndexByte(p.Origin, ':')] }

// Port is the port of Origin.
func (p place) Port() string { return p.Origin[strings.LastIndexByte(p.Origin, ':')+1:] }

// ManifestType is the media type of all manifests.
func (p place) ManifestType() string { return origin.ManifestType }

//go:embed targets
var configurations embed.FS

// configure writes the configuration of a target and returns the words of its command.
func (t target) configure(p place) ([]string, error) {
	text, err := configurations.ReadFile("targets/" + t.config)
	if err != nil {
		return nil, err
	}
	p.Config = filepath.Join(p.Dir, t.config)
	config, err := fillIn(t.config, string(text), p)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.Config, config, 0o600); err != nil {
		return nil, err
	}
	command, err := fillIn(t.name, t.command, p)
	return strings.Fields(string(command)), err
}

func fillIn(name, text string, p place) ([]byte, error) {
	parsed, err := template.New(name).Parse(text)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", name, err)
	}
	return out.Bytes(), nil
}
