package signintest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// What Azure's directory knows.
const (
	Tenant         = "11111111-aaaa-bbbb-cccc-000000000000"
	ClientID       = "22222222-aaaa-bbbb-cccc-000000000000"
	ClientSecret   = "client~secret"
	FederatedToken = "federated.token.x"
)

// Azure is the metadata service, the directory, and the exchange of a registry, which a test has to put in front of the
// registry itself. The kinds of its requests are "metadata", "directory" and "exchange".
type Azure struct {
	service
	audience string
	tokens   map[string]bool // of the directory
}

// NewAzure starts the services. Tokens are given for an audience. They end with the test.
func NewAzure(t testing.TB, audience string) *Azure {
	t.Helper()
	a := &Azure{audience: audience, tokens: map[string]bool{}}
	a.start(t, 3*time.Hour, func(req *http.Request) string {
		switch req.URL.Path {
		case "/oauth2/exchange":
			return "exchange"
		case "/metadata/identity/oauth2/token":
			return "metadata"
		}
		return "directory"
	}, a.answer)
	a.keep(ClientSecret)
	a.keep(FederatedToken)
	return a
}

// Accepts reports whether a registry's token service would take a refresh token.
func (a *Azure) Accepts(_, refreshToken string) bool { return a.accepts(refreshToken) }

func (a *Azure) answer(w http.ResponseWriter, req *http.Request, seen Request) {
	form, ok := req.FormValue, false
	switch seen.Kind {
	case "exchange":
		a.answerExchange(w, req)
		return
	case "metadata":
		ok = req.Header.Get("Metadata") == "true" && form("api-version") == "2018-02-01" && form("resource") == a.audience
	case "directory":
		ok = req.URL.Path == "/"+Tenant+"/oauth2/v2.0/token" && form("grant_type") == "client_credentials" &&
			form("client_id") == ClientID && form("scope") == a.audience+"/.default" && a.proven(form)
	}
	if !ok {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_client", "error_description": "AADSTS7000215: " + seen.Body})
		return
	}
	token := a.secret()
	a.mu.Lock()
	a.tokens[token] = true
	a.mu.Unlock()
	// The metadata service writes numbers as text.
	writeJSON(w, http.StatusOK, map[string]string{"access_token": token, "expires_in": "86400"})
}

func (a *Azure) proven(form func(string) string) bool {
	return form("client_secret") == ClientSecret ||
		form("client_assertion") == FederatedToken && form("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
}

// answerExchange gives a refresh token, which says its life itself, for a token of the directory.
func (a *Azure) answerExchange(w http.ResponseWriter, req *http.Request) {
	a.mu.Lock()
	known := a.tokens[req.FormValue("access_token")]
	a.mu.Unlock()
	if !known || req.FormValue("grant_type") != "access_token" || req.FormValue("service") == "" {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"errors": []map[string]string{{"code": "UNAUTHORIZED", "message": req.FormValue("access_token")}}})
		return
	}
	now := a.now().Unix()
	claims, err := json.Marshal(map[string]any{"jti": strconv.Itoa(len(a.Secrets())), "iat": now, "exp": now + int64(a.lifetime()/time.Second)})
	if err != nil {
		panic(err)
	}
	token := "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(claims) + "." + a.secret()
	writeJSON(w, http.StatusOK, map[string]string{"refresh_token": a.give(token)})
}
