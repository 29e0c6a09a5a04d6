package signin

import (
	"regexp"
	"strings"
)

// googleHost matches Artifact Registry and the older names.
var googleHost = regexp.MustCompile(`^([a-z0-9-]+-docker\.pkg\.dev|([a-z0-9-]+\.)?gcr\.io)$`)

// azureHost matches the registries of Azure's clouds.
var azureHost = regexp.MustCompile(`\.azurecr\.(io|cn|us)$`)

// Form returns the key below credentials that signs in to the registry at host, or nothing for a registry of no cloud.
// private tells whether nothing there can be read without signing in.
func Form(host string) (key string, private bool) {
	host, _, _ = strings.Cut(host, ":")
	if name, ok := parseECR(host); ok {
		return "ecr", !name.public
	}
	switch {
	case googleHost.MatchString(host):
		return "google", false
	case azureHost.MatchString(host):
		return "azure", false
	}
	return "", false
}
