package signintest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Google is the metadata service and the service that takes signed claims. The kinds of its requests are "metadata" and
// "token".
type Google struct {
	service
	key *rsa.PrivateKey
}

// NewGoogle starts the services. They end with the test.
func NewGoogle(t testing.TB) *Google {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	g := &Google{key: key}
	g.start(t, time.Hour, func(req *http.Request) string {
		if req.URL.Path == "/token" {
			return "token"
		}
		return "metadata"
	}, g.answer)
	return g
}

// KeyFile returns the content of the key file of a service account.
func (g *Google) KeyFile() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		panic(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for line := range strings.Lines(private) {
		if len(line) > 20 && !strings.HasPrefix(line, "-----") { // the rest of a line is not long enough to tell
			g.keep(strings.TrimSpace(line))
		}
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "mirror@project.iam.gserviceaccount.com",
		"private_key_id": "key-1", "private_key": private, "token_uri": g.URL + "/token",
	})
	if err != nil {
		panic(err)
	}
	return text
}

// Accepts reports whether a registry would take a user name and password.
func (g *Google) Accepts(username, password string) bool {
	return username == "oauth2accesstoken" && g.accepts(password)
}

func (g *Google) answer(w http.ResponseWriter, req *http.Request, seen Request) {
	if seen.Kind == "token" {
		g.answerClaim(w, req)
		return
	}
	if req.Header.Get("Metadata-Flavor") != "Google" || req.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/token" {
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	}
	g.answerToken(w)
}

func (g *Google) answerToken(w http.ResponseWriter) {
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": g.give("ya29." + g.secret()), "expires_in": int(g.lifetime() / time.Second), "token_type": "Bearer",
	})
}

// answerClaim gives a token to who has signed a claim for this time of day.
func (g *Google) answerClaim(w http.ResponseWriter, req *http.Request) {
	claim := g.keep(req.FormValue("assertion"))
	if reason := g.verify(claim, g.now()); reason != "" || req.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": reason + " " + claim})
		return
	}
	g.answerToken(w)
}

func (g *Google) verify(claim string, now time.Time) string {
	text, signature, _ := cutLast(claim, ".")
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	sum := sha256.Sum256([]byte(text))
	if err != nil || rsa.VerifyPKCS1v15(&g.key.PublicKey, crypto.SHA256, sum[:], raw) != nil {
		return "Invalid JWT Signature."
	}
	_, body, _ := strings.Cut(text, ".")
	content, err := base64.RawURLEncoding.DecodeString(body)
	var claims struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		Scope    string `json:"scope"`
		Issued   int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}
	switch {
	case err != nil || json.Unmarshal(content, &claims) != nil:
		return "Invalid JWT"
	case claims.Issuer != "mirror@project.iam.gserviceaccount.com" || claims.Audience != g.URL+"/token" || claims.Scope == "":
		return "Invalid JWT claims"
	case claims.Issued > now.Unix() || claims.Expires < now.Unix() || claims.Expires-claims.Issued > 3600:
		return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
	}
	return ""
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}
