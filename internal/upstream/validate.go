package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Validate reports everything that is wrong with c, joined. Each line starts with the key, relative to the upstream,
// and says what would be right. Files are not opened: that is for New.
func (c Config) Validate() error {
	var problems []error
	fault := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	c.validateNames(fault)
	for i, endpoint := range c.Endpoints {
		if reason := endpointFault(endpoint); reason != "" {
			fault(fmt.Sprintf("endpoints[%d]", i), "%q %s", redacted(endpoint), reason)
		}
	}
	c.validateAccounts(fault)
	c.validateTrust(fault)
	c.validateNumbers(fault)
	validateGlobs("allow", c.Allow, fault)
	validateGlobs("deny", c.Deny, fault)
	return errors.Join(problems...)
}

// faultFunc records what is wrong with a key.
type faultFunc func(key, format string, args ...any)

func (c Config) validateNames(fault faultFunc) {
	switch {
	case c.Registry == "":
		fault("registry", "is missing: write the host part of image names, such as ghcr.io or registry.example:5000")
	case slices.Contains(dockerHubAliases, c.Registry):
		fault("registry", "%q is another name of Docker Hub: write docker.io", c.Registry)
	case !validHost(c.Registry):
		fault("registry", "%q is no registry name: write a lower-case host and, if it is not 443, its port, such as ghcr.io or registry.example:5000", c.Registry)
	case normalise(c.Registry) != c.Registry:
		fault("registry", "%q holds the port that is meant anyway: write %s", c.Registry, normalise(c.Registry))
	}
	for i, host := range c.Hosts {
		if !validHost(host) {
			fault(fmt.Sprintf("hosts[%d]", i), "%q is no host name: write it in lower case, with a port only if clients send one", host)
		}
	}
}

func (c Config) validateNumbers(fault faultFunc) {
	c.Tags.validate(fault)
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"limits.connections", int64(c.Limits.Connections)}, {"limits.blob_connections", int64(c.Limits.BlobConnections)},
		{"limits.bandwidth", int64(c.Limits.Bandwidth)}, {"limits.requests", int64(c.Limits.Requests)},
	} {
		if n.value < 0 {
			fault(n.key, "%d is negative: write a positive number, or 0", n.value)
		}
	}
}

func validateGlobs(key string, patterns []string, fault faultFunc) {
	validatePatterns(key, patterns, compileGlob, fault)
}

func validatePatterns(key string, patterns []string, compile func(string) (*regexp.Regexp, error), fault faultFunc) {
	for i, pattern := range patterns {
		if _, err := compile(pattern); err != nil {
			fault(fmt.Sprintf("%s[%d]", key, i), "%v", err)
		}
	}
}

// ValidateAll checks each upstream and what they share: a registry or host named twice, two defaults. Keys start with
// "upstreams[i].".
func ValidateAll(cfgs []Config) error {
	var problems []error
	registries, hosts, standard := map[string]int{}, map[string]int{}, -1
	for i, c := range cfgs {
		problems = append(problems, indexed(i, c.Validate()))
		if first, taken := registries[normalise(c.Registry)]; taken && c.Registry != "" {
			problems = append(problems, fmt.Errorf("upstreams[%d].registry: %q is named by upstreams[%d] already: keep one", i, c.Registry, first))
		}
		registries[normalise(c.Registry)] = i
		for j, host := range c.Hosts {
			if first, taken := hosts[host]; taken {
				problems = append(problems, fmt.Errorf("upstreams[%d].hosts[%d]: %q is named by upstreams[%d] already: keep one", i, j, host, first))
			}
			hosts[host] = i
		}
		if c.Default && standard >= 0 {
			problems = append(problems, fmt.Errorf("upstreams[%d].default: upstreams[%d] is the default already: keep one", i, standard))
		}
		if c.Default {
			standard = i
		}
	}
	return errors.Join(problems...)
}

// indexed puts the upstream's place before each of the joined problems.
func indexed(i int, err error) error {
	if err == nil {
		return nil
	}
	var problems []error
	for _, problem := range err.(interface{ Unwrap() []error }).Unwrap() {
		problems = append(problems, fmt.Errorf("upstreams[%d].%w", i, problem))
	}
	return errors.Join(problems...)
}

// endpointFault returns what is wrong with a base URL, or nothing.
func endpointFault(endpoint string) string {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Opaque != "" || u.Scheme == "" || u.Hostname() == "":
		return "is no base URL: write https://HOST or http://HOST:PORT"
	case u.Scheme != "https" && u.Scheme != "http":
		return "has a scheme that registries do not speak: write https:// (or http:// for a registry without TLS)"
	case u.User != nil:
		return "holds user information: move it to credentials"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "has a query or fragment: leave it out"
	case !validPort(u.Port()):
		return "has no legal port: write a number from 1 to 65535"
	}
	return ""
}

// redacted returns what of a URL may be shown: no user information, query or fragment.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	return redactedURL(u)
}

func redactedURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// validHost reports whether text is a lower-case host name or IPv4 address, with or without a port.
func validHost(text string) bool {
	host, port, hasPort := strings.Cut(text, ":")
	if hasPort && (port == "" || !validPort(port)) || len(host) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
