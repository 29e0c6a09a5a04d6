package upstream

import (
	"fmt"
	"strings"

	"mirror/internal/upstream/signin"
)

// validateAccounts checks the credentials of the one account, or of each of several.
func (c Config) validateAccounts(fault faultFunc) {
	if len(c.Accounts) > 0 && (c.Credentials != Credentials{}) {
		fault("accounts", "credentials are there too: move them into the list, or leave one of the two out")
	}
	for _, one := range c.Identities() {
		there := fault.at(one.Key)
		if len(c.Accounts) > 0 && one.forms() == 0 {
			there("credentials", "names none: write docker_config, username with password_file, helper, ecr, google or azure")
			continue
		}
		one.validate(there)
		alone := c
		alone.Credentials, alone.Accounts = one.Credentials, nil
		alone.validateCloud(there)
	}
}

// at returns a function for what is said about credentials that stand under another key.
func (f faultFunc) at(place string) faultFunc {
	return func(key, format string, args ...any) {
		f(place+strings.TrimPrefix(key, "credentials"), format, args...)
	}
}

func (c Credentials) validate(fault faultFunc) {
	switch forms := c.forms(); {
	case forms > 1:
		fault("credentials", "holds several forms: keep one of docker_config, username with password_file, helper, ecr, google or azure")
	case forms == 0 && c.Preemptive:
		fault("credentials.preemptive", "there are no credentials to show: add username with password_file, or leave it out")
	case c.Username != "" && c.PasswordFile == "":
		fault("credentials.password_file", "is missing: username needs it; write the name of a file that holds the password")
	case c.Username == "" && c.PasswordFile != "":
		fault("credentials.username", "is missing: password_file needs it")
	case strings.Contains(c.Username, ":"):
		fault("credentials.username", "holds a colon, which basic authentication cannot carry: keep the password in password_file")
	case c.Helper != "" && !validHelper(c.Helper):
		fault("credentials.helper", "%q is no helper name: write NAME of docker-credential-NAME, without a path", c.Helper)
	}
}

// validateCloud checks what the clouds' forms say, and whether the registry is theirs.
func (c Config) validateCloud(fault faultFunc) {
	c.Credentials.validateEndpoints(fault)
	host := c.cloudHost()
	if ecr := c.Credentials.ECR; ecr != nil {
		switch {
		case ecr.Region == "" && !signin.KnowsRegion(host):
			fault("credentials.ecr.region", "is missing: the name %s does not say it; write the region, such as eu-central-1", host)
		case ecr.Region != "" && strings.Trim(ecr.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			fault("credentials.ecr.region", "%q is no region: write its code, such as eu-central-1", ecr.Region)
		}
	}
	if azure := c.Credentials.Azure; azure != nil {
		switch {
		case azure.ClientSecretFile != "" && azure.FederatedTokenFile != "":
			fault("credentials.azure", "holds client_secret_file and federated_token_file: keep one")
		case azure.ClientSecretFile != "" && azure.Tenant == "":
			fault("credentials.azure.tenant", "is missing: client_secret_file needs it; write the id of the directory")
		case azure.ClientSecretFile != "" && azure.ClientID == "":
			fault("credentials.azure.client_id", "is missing: client_secret_file needs it; write the id of the application")
		}
	}
}

// validateEndpoints checks every address that is overridden.
func (c Credentials) validateEndpoints(fault faultFunc) {
	type override struct{ key, url string }
	var overrides []override
	if c.ECR != nil {
		overrides = append(overrides, override{"ecr.endpoint", c.ECR.Endpoint}, override{"ecr.sts_endpoint", c.ECR.STSEndpoint},
			override{"ecr.container_endpoint", c.ECR.ContainerEndpoint}, override{"ecr.metadata_endpoint", c.ECR.MetadataEndpoint})
	}
	if c.Google != nil {
		overrides = append(overrides, override{"google.token_endpoint", c.Google.TokenEndpoint}, override{"google.metadata_endpoint", c.Google.MetadataEndpoint})
	}
	if c.Azure != nil {
		overrides = append(overrides, override{"azure.authority", c.Azure.Authority}, override{"azure.metadata_endpoint", c.Azure.MetadataEndpoint})
	}
	for _, o := range overrides {
		if o.url == "" {
			continue
		}
		if reason := endpointFault(o.url); reason != "" {
			fault("credentials."+o.key, "%q %s", redacted(o.url), reason)
		}
	}
}

// validateTrust checks the names of certificates and of token services.
func (c Config) validateTrust(fault faultFunc) {
	switch {
	case c.ClientCertificate != "" && c.ClientKey == "":
		fault("client_key", "is missing: client_certificate needs it; write the name of the PEM file with its key")
	case c.ClientCertificate == "" && c.ClientKey != "":
		fault("client_certificate", "is missing: client_key needs it; write the name of the PEM file with the certificate")
	}
	for i, host := range c.TokenHosts {
		if !validHost(host) {
			fault(fmt.Sprintf("token_hosts[%d]", i), "%q is no host name: write it in lower case, such as gitlab.example, with a port or for any", host)
		}
	}
}

// validHelper keeps the name of a helper from leading outside the PATH.
func validHelper(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}
