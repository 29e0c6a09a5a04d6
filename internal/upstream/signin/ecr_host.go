package signin

import (
	"regexp"
	"strings"
)

// ecrName is what the host name of an Amazon registry says.
type ecrName struct {
	account string // empty for the public registry
	region  string
	domain  string // of AWS's services in that part of the world
	fips    bool
	dual    bool // the name that has IPv6 addresses too
	public  bool
}

// ecrHost matches <account>.dkr.ecr.<region>.<domain> and its variants. Domains are listed, so that no other host gets
// signed requests because its name has the form.
var ecrHost = regexp.MustCompile(`^(\d{12})\.dkr[.-]ecr(-fips)?\.([a-z0-9-]+)\.` +
	`(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov)$`)

// publicECR are the names of Amazon's public registry, whose accounts all live in one region.
var publicECR = map[string]bool{"public.ecr.aws": true, "ecr-public.aws.com": true}

// parseECR takes a host name, with or without a port, apart.
func parseECR(host string) (ecrName, bool) {
	host, _, _ = strings.Cut(host, ":")
	if publicECR[host] {
		return ecrName{region: "us-east-1", domain: "amazonaws.com", public: true}, true
	}
	found := ecrHost.FindStringSubmatch(host)
	if found == nil {
		return ecrName{}, false
	}
	name := ecrName{account: found[1], fips: found[2] != "", region: found[3], domain: found[4]}
	if dual, ok := strings.CutPrefix(name.domain, "on."); ok {
		name.dual, name.domain = true, map[string]string{"aws": "amazonaws.com", "amazonwebservices.com.cn": "amazonaws.com.cn"}[dual]
	}
	return name, true
}

// inRegion is what is assumed of a registry under a name of its own.
func inRegion(region string) ecrName {
	domain := "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		domain += ".cn"
	}
	return ecrName{region: region, domain: domain}
}

// api returns the base URL of the service that gives out passwords.
func (n ecrName) api() string {
	switch {
	case n.public:
		return "https://api.ecr-public." + n.region + ".amazonaws.com"
	case n.dual:
		service, domain := "ecr.", "aws"
		if n.fips {
			service = "ecr-fips."
		}
		if n.domain == "amazonaws.com.cn" {
			domain = "amazonwebservices.com.cn"
		}
		return "https://" + service + n.region + ".api." + domain
	case n.fips:
		return "https://ecr-fips." + n.region + "." + n.domain
	}
	return "https://api.ecr." + n.region + "." + n.domain
}

// sts returns the base URL of the service that gives out sessions of roles.
func (n ecrName) sts() string {
	if n.fips {
		return "https://sts-fips." + n.region + "." + n.domain
	}
	return "https://sts." + n.region + "." + n.domain
}
