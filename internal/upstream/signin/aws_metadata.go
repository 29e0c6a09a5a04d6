package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// fromContainer asks the service beside a container of ECS, or the agent of EKS pod identity.
func (e *ecr) fromContainer(ctx context.Context, full, relative string) (awsKeys, error) {
	target := strings.TrimRight(orDefault(e.config.ContainerEndpoint, "http://169.254.170.2"), "/") + relative
	if relative == "" {
		if err := checkContainerURL(full); err != nil {
			return awsKeys{}, err
		}
		target = full
	}
	token := e.platform.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	// The file is written anew while the process runs, so it counts before the variable.
	if file := e.platform.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		var err error
		if token, err = readSecret("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file); err != nil {
			return awsKeys{}, err
		}
	}
	q := question{method: http.MethodGet, url: target}
	if token != "" {
		q.header = map[string]string{"Authorization": token}
	}
	a, err := askMetadata(ctx, e.platform.Cloud, q)
	if err != nil {
		return awsKeys{}, err
	}
	return readKeys(a, token)
}

// containerHosts are the addresses without TLS at which clouds serve credentials to containers: ECS, and EKS in both
// families.
var containerHosts = []string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}

// checkContainerURL keeps the token from travelling in the clear to anywhere but this machine, as AWS's own tools do.
func checkContainerURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is not a URL")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	near := err == nil && ip.IsLoopback() || u.Hostname() == "localhost" || slices.Contains(containerHosts, u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && near {
		return nil
	}
	return fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI names %s, which is neither https nor an address of this machine", bare(address))
}

// fromInstance asks the instance's metadata service for the keys of its role, by version 2 of its protocol: a session
// token first, which another machine could not get.
func (e *ecr) fromInstance(ctx context.Context) (awsKeys, error) {
	base := strings.TrimRight(orDefault(e.config.MetadataEndpoint, "http://169.254.169.254"), "/")
	a, err := askMetadata(ctx, e.platform.Cloud, question{
		method: http.MethodPut, url: base + "/latest/api/token",
		header: map[string]string{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "60"},
	})
	if err != nil {
		return awsKeys{}, fmt.Errorf("there are none in the environment or files, and the instance does not give its role's (in a container, raise the metadata hop limit to 2): %w", err)
	}
	if a.status != http.StatusOK {
		return awsKeys{}, a.refusal("", "")
	}
	session := string(a.body)
	header := map[string]string{"X-Aws-Ec2-Metadata-Token": session}
	roles := base + "/latest/meta-data/iam/security-credentials/"
	if a, err = askMetadata(ctx, e.platform.Cloud, question{method: http.MethodGet, url: roles, header: header}); err != nil {
		return awsKeys{}, err
	}
	role, _, _ := strings.Cut(strings.TrimSpace(string(a.body)), "\n")
	if a.status == http.StatusNotFound || a.status == http.StatusOK && role == "" {
		return awsKeys{}, errors.New("there are none in the environment or files, and the instance has no role: attach one, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	if a.status != http.StatusOK {
		return awsKeys{}, a.refusal("", "", session)
	}
	a, err = askMetadata(ctx, e.platform.Cloud, question{method: http.MethodGet, url: roles + url.PathEscape(role), header: header})
	if err != nil {
		return awsKeys{}, err
	}
	return readKeys(a, session)
}

// readKeys reads the answer that containers and instances get. secret is what the question carried.
func readKeys(a answer, secret string) (awsKeys, error) {
	var form struct {
		Code            string
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		Token           string
	}
	if a.status != http.StatusOK {
		return awsKeys{}, a.refusal("", "", secret)
	}
	if err := a.decode(&form); err != nil {
		return awsKeys{}, err
	}
	if form.AccessKeyID == "" || form.SecretAccessKey == "" {
		return awsKeys{}, fmt.Errorf("read answer of %s: no keys in it (%s)", a.from, orDefault(clean(form.Code, []string{secret}), "no code"))
	}
	return awsKeys{id: form.AccessKeyID, secret: form.SecretAccessKey, session: form.Token}, nil
}
