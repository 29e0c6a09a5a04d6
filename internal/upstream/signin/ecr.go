package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

// ECR says how to sign in to Amazon ECR, private or public. The zero value finds everything by itself: region and
// account in the registry's name, keys where AWS's own tools look for them: the environment, a web identity (IRSA), the
// shared credentials file, the container's credentials (ECS, EKS pod identity), the instance's role.
type ECR struct {
	// Region is needed only for a registry under a name of its own.
	Region string `yaml:"region"`
	// Profile is the section of the shared credentials file. Empty means AWS_PROFILE, or "default".
	Profile string `yaml:"profile"`
	// CredentialsFile is the shared credentials file. Empty means AWS_SHARED_CREDENTIALS_FILE, or ~/.aws/credentials.
	CredentialsFile string `yaml:"credentials_file"`
	// Endpoint is the base URL of ECR's API. Empty means the public one of the region.
	Endpoint string `yaml:"endpoint"`
	// STSEndpoint is the base URL of the service that turns a web identity into keys. Empty means the region's.
	STSEndpoint string `yaml:"sts_endpoint"`
	// ContainerEndpoint is the base URL that AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is relative to. Empty means
	// http://169.254.170.2.
	ContainerEndpoint string `yaml:"container_endpoint"`
	// MetadataEndpoint is the base URL of the instance's metadata service. Empty means http://169.254.169.254.
	MetadataEndpoint string `yaml:"metadata_endpoint"`
}

// longestECR bounds what is believed about a password's life. Real ones last twelve hours.
const longestECR = 24 * time.Hour

// ecr is a Source for Amazon ECR.
type ecr struct {
	config   ECR
	name     ecrName
	platform Platform
	clock    clock
}

// Source returns what signs in to the registry at host, which is a host name with or without a port.
func (c ECR) Source(host string, p Platform) Source {
	name, ok := parseECR(host)
	if !ok {
		name = inRegion(c.Region)
	}
	if c.Region != "" && !name.public {
		name.region = c.Region
	}
	e := &ecr{config: c, name: name, platform: p}
	return e.fetch
}

// KnowsRegion reports whether a host name says in which region of AWS its registry is.
func KnowsRegion(host string) bool {
	_, ok := parseECR(host)
	return ok
}

func (e *ecr) fetch(ctx context.Context) (Grant, error) {
	keys, err := e.keys(ctx)
	if err != nil {
		return Grant{}, fmt.Errorf("find AWS keys: %w", err)
	}
	a, err := e.ask(ctx, keys)
	if err != nil {
		return Grant{}, err
	}
	// A refused signature is wrong or made at a time that the service takes for another.
	if a.status != http.StatusOK && aboutTime(awsCode(a.body)) && e.clock.learn(a.date) {
		if a, err = e.ask(ctx, keys); err != nil {
			return Grant{}, err
		}
	}
	if a.status != http.StatusOK {
		return Grant{}, e.refused(a, keys)
	}
	return e.grant(a)
}

// ask asks for a password.
func (e *ecr) ask(ctx context.Context, keys awsKeys) (answer, error) {
	q := question{method: http.MethodPost, url: orDefault(e.config.Endpoint, e.name.api()), body: "{}"}
	target, service := "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "ecr"
	if e.name.public {
		target, service = "SpencerFrontendService.GetAuthorizationToken", "ecr-public"
	}
	if e.name.account != "" {
		q.body = `{"registryIds":["` + e.name.account + `"]}`
	}
	q.url = strings.TrimRight(q.url, "/") + "/"
	q.header = map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
	req, err := q.request(ctx)
	if err != nil {
		return answer{}, err
	}
	keys.sign(req, q.body, e.name.region, service, e.clock.now())
	return exchange(e.platform.Cloud, req)
}

// grant reads a password out of the answer, which is a list for private registries and one entry for the public one.
func (e *ecr) grant(a answer) (Grant, error) {
	var form struct {
		Data json.RawMessage `json:"authorizationData"`
	}
	if err := a.decode(&form); err != nil {
		return Grant{}, err
	}
	type authorization struct {
		Token   string  `json:"authorizationToken"`
		Expires float64 `json:"expiresAt"`
	}
	var list []authorization
	if json.Unmarshal(form.Data, &list) != nil {
		list = make([]authorization, 1)
		if err := json.Unmarshal(form.Data, &list[0]); err != nil {
			return Grant{}, fmt.Errorf("read answer of %s: no authorizationData in it", a.from)
		}
	}
	if len(list) == 0 {
		return Grant{}, fmt.Errorf("read answer of %s: no authorizationData in it", a.from)
	}
	text, err := base64.StdEncoding.DecodeString(list[0].Token)
	username, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok || password == "" {
		return Grant{}, fmt.Errorf("read answer of %s: its token is not the base64 of user:password", a.from)
	}
	return Grant{Credential: Credential{Username: username, Password: password}, Life: e.life(a, list[0].Expires)}, nil
}

// life returns how long a password is good that ends at a time in seconds. Zero stays "nobody said".
func (e *ecr) life(a answer, ends float64) time.Duration {
	if ends <= 0 || math.IsInf(ends, 0) || ends > math.MaxInt32*4 {
		return 0
	}
	return min(a.lifeUntil(time.Unix(int64(ends), 0)), longestECR)
}

// refused says what it means that there was no password.
func (e *ecr) refused(a answer, keys awsKeys) error {
	code := awsCode(a.body)
	switch {
	case strings.HasPrefix(code, "AccessDenied") && e.name.public:
		return fmt.Errorf("%w: allow ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken to the identity of the mirror", a.refusal(code, awsMessage(a.body), keys.secrets()...))
	case strings.HasPrefix(code, "AccessDenied"):
		return fmt.Errorf("%w: allow ecr:GetAuthorizationToken to the identity of the mirror", a.refusal(code, awsMessage(a.body), keys.secrets()...))
	case aboutTime(code):
		// The message of a refused signature holds everything that was signed, so it is left out.
		return fmt.Errorf("%w: check the secret key and this machine's clock", a.refusal(code, ""))
	}
	return a.refusal(code, awsMessage(a.body), keys.secrets()...)
}

// aboutTime reports whether an error code may mean that clocks differ.
func aboutTime(code string) bool {
	switch code {
	case "RequestTimeTooSkewed", "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "InvalidSignature":
		return true
	}
	return false
}

// awsCode returns the name of an error in JSON, which may stand behind a name space: "com.amazonaws.ecr#ServerException".
func awsCode(body []byte) string {
	var form struct {
		Type string `json:"__type"`
	}
	_ = json.Unmarshal(body, &form) // an answer that is no JSON has no code
	return form.Type[strings.LastIndex(form.Type, "#")+1:]
}

func awsMessage(body []byte) string {
	var form struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &form) // the key is matched in any case, as services differ
	return form.Message
}
