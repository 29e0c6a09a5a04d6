package signintest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The long-lived keys that AWS knows.
const (
	KeyID     = "AKIATEST"
	SecretKey = "long-lived/secret+key"
)

// Role is the role that may be assumed, and WebIdentity the token that proves who asks. ContainerToken is what the
// container's credentials want to see, at ContainerPath.
const (
	Role           = "arn:aws:iam::123456789012:role/mirror"
	WebIdentity    = "web.identity.token"
	ContainerToken = "container-token"
	ContainerPath  = "/v2/credentials/mirror"
)

// awsTolerance is by how much clocks may differ.
const awsTolerance = 5 * time.Minute

// AWS is ECR's API and everything that gives keys for it. The kinds of its requests are "ecr", "ecr-public", "sts",
// "container", "imds-token" and "imds".
type AWS struct {
	service

	metadata string // session token of the instance's metadata service
	sessions map[string]session
}

// session is keys of a role: the session token that they go with, and the secret key.
type session struct{ token, secret string }

// NewAWS starts the services. They end with the test.
func NewAWS(t testing.TB) *AWS {
	t.Helper()
	a := &AWS{sessions: map[string]session{}}
	a.start(t, 12*time.Hour, awsKind, a.answer)
	for _, secret := range []string{SecretKey, WebIdentity, ContainerToken} {
		a.keep(secret)
	}
	a.metadata = a.secret()
	return a
}

// Accepts reports whether a registry would take a user name and password.
func (a *AWS) Accepts(username, password string) bool {
	return username == "AWS" && a.accepts(password)
}

func awsKind(req *http.Request) string {
	switch target := req.Header.Get("X-Amz-Target"); {
	case strings.HasPrefix(target, "AmazonEC2ContainerRegistry"):
		return "ecr"
	case strings.HasPrefix(target, "SpencerFrontendService"):
		return "ecr-public"
	case req.URL.Path == "/latest/api/token":
		return "imds-token"
	case strings.HasPrefix(req.URL.Path, "/latest/"):
		return "imds"
	case req.URL.Path == ContainerPath:
		return "container"
	}
	return "sts"
}

func (a *AWS) answer(w http.ResponseWriter, req *http.Request, seen Request) {
	switch seen.Kind {
	case "ecr", "ecr-public":
		a.answerECR(w, req, seen)
	case "sts":
		a.answerSTS(w, req)
	case "container":
		if req.Header.Get("Authorization") != ContainerToken {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		a.answerKeys(w)
	default:
		a.answerMetadata(w, req)
	}
}

// answerECR gives a password to who has signed well.
func (a *AWS) answerECR(w http.ResponseWriter, req *http.Request, seen Request) {
	if code := a.verify(req, seen.Body, seen.Kind); code != "" {
		// The real service repeats what should have been signed, the session token included.
		writeJSON(w, http.StatusBadRequest, map[string]string{
			"__type": code, "message": "The canonical string should have been " + req.Header.Get("X-Amz-Security-Token"),
		})
		return
	}
	password := a.give(a.secret())
	authorization := map[string]any{
		"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + password)),
		"expiresAt":          float64(a.now().Add(a.lifetime()).UnixMilli()) / 1000,
	}
	if seen.Kind == "ecr" {
		writeJSON(w, http.StatusOK, map[string]any{"authorizationData": []any{authorization}})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"authorizationData": authorization})
}

// verify returns the code of what is wrong with a signature, computed anew from what has arrived.
func (a *AWS) verify(req *http.Request, body, service string) string {
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimPrefix(req.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ", ") {
		name, value, _ := strings.Cut(field, "=")
		fields[name] = value
	}
	id, scope, _ := strings.Cut(fields["Credential"], "/")
	secret, known := a.secretOf(id, req.Header.Get("X-Amz-Security-Token"))
	stamp := req.Header.Get("X-Amz-Date")
	signed, err := time.Parse("20060102T150405Z", stamp)
	region := strings.Split(scope+"//", "/")[1]
	switch {
	case !known:
		return "UnrecognizedClientException"
	case err != nil || scope != stamp[:8]+"/"+region+"/"+service+"/aws4_request" || region == "":
		return "InvalidSignatureException"
	}
	names := strings.Split(fields["SignedHeaders"], ";")
	canonical := req.Method + "\n" + req.URL.Path + "\n\n"
	for _, name := range names {
		value := req.Header.Get(name)
		if name == "host" {
			value = req.Host
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + fields["SignedHeaders"] + "\n" + hexSum(body)
	key := []byte("AWS4" + secret)
	for _, part := range []string{stamp[:8], region, service, "aws4_request", "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hexSum(canonical)} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	if hex.EncodeToString(key) != fields["Signature"] {
		return "InvalidSignatureException"
	}
	if a.now().Sub(signed).Abs() > awsTolerance {
		return "com.amazon.coral.service#InvalidSignatureException"
	}
	return ""
}

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (a *AWS) secretOf(id, token string) (string, bool) {
	if id == KeyID {
		return SecretKey, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.sessions[id]
	return s.secret, ok && s.token == token
}

// openSession makes up keys of the role.
func (a *AWS) openSession() (id string, s session) {
	s = session{token: a.secret() + "/+=", secret: a.secret()}
	a.keep(s.token)
	id = "ASIA" + fmt.Sprint(len(a.Secrets()))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions[id] = s
	return id, s
}

func (a *AWS) answerSTS(w http.ResponseWriter, req *http.Request) {
	form := req.FormValue
	if form("Action") != "AssumeRoleWithWebIdentity" || form("RoleArn") != Role || form("WebIdentityToken") != WebIdentity || form("RoleSessionName") == "" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>bad token %s</Message></Error></ErrorResponse>", form("WebIdentityToken"))
		return
	}
	id, s := a.openSession()
	fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, id, s.secret, s.token)
}

// answerMetadata is version 2 of the instance's metadata service: nothing without a session token.
func (a *AWS) answerMetadata(w http.ResponseWriter, req *http.Request) {
	const roles = "/latest/meta-data/iam/security-credentials/"
	switch {
	case req.URL.Path == "/latest/api/token" && req.Method == http.MethodPut && req.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "":
		_, _ = w.Write([]byte(a.metadata))
	case req.Header.Get("X-Aws-Ec2-Metadata-Token") != a.metadata:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	case req.URL.Path == roles:
		_, _ = w.Write([]byte("mirror-role"))
	case req.URL.Path == roles+"mirror-role":
		a.answerKeys(w)
	default:
		http.NotFound(w, req)
	}
}

func (a *AWS) answerKeys(w http.ResponseWriter) {
	id, s := a.openSession()
	writeJSON(w, http.StatusOK, map[string]string{"Code": "Success", "AccessKeyId": id, "SecretAccessKey": s.secret, "Token": s.token})
}
