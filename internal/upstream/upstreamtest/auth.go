package upstreamtest

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// auth is the authentication in front of the registry.
type auth struct {
	scheme             string // "", "bearer", "basic"
	username, password string // empty username: everybody gets a token
	tokens             map[string]issuedToken
	private            map[string]bool
	challenge          string
	life               time.Duration
}

type issuedToken struct {
	scopes  []string
	expires time.Time
}

// RequireToken wants a bearer token on every request. The token service is at URL+"/token". With an empty username it
// gives everybody a token; otherwise it wants the username and password.
func (r *Registry) RequireToken(username, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.scheme, r.auth.username, r.auth.password = "bearer", username, password
}

// RequireBasic wants the username and password on every request.
func (r *Registry) RequireBasic(username, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.scheme, r.auth.username, r.auth.password = "basic", username, password
}

// SetPrivate makes tokens useless for a repository unless a username is required, as Docker Hub does for repositories
// that are private or do not exist.
func (r *Registry) SetPrivate(repo string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.auth.private == nil {
		r.auth.private = map[string]bool{}
	}
	r.auth.private[repo] = true
}

// SetChallenge replaces the WWW-Authenticate header of every 401; "none" leaves it out except on /v2/.
func (r *Registry) SetChallenge(challenge string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.challenge = challenge
}

// SetTokenLife sets expires_in of tokens from now on; zero leaves it out.
func (r *Registry) SetTokenLife(life time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.life = life
}

// ExpireTokens makes every token given so far invalid.
func (r *Registry) ExpireTokens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.auth.tokens)
}

// serveToken is the token service.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	_ = req.ParseForm()
	r.mu.Lock()
	defer r.mu.Unlock()
	username, password, _ := req.BasicAuth()
	refreshed := req.PostForm.Get("grant_type") == "refresh_token" && req.PostForm.Get("refresh_token") == r.auth.password
	if r.auth.username != "" && !refreshed && (username != r.auth.username || password != r.auth.password) {
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong username or password")
		return
	}
	token := rand.Text()
	r.auth.tokens[token] = issuedToken{scopes: req.Form["scope"], expires: time.Now().Add(24 * time.Hour)}
	answer := map[string]any{"token": token}
	if r.auth.life > 0 {
		answer["expires_in"] = int(r.auth.life / time.Second)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(marshal(answer))
}

// admitted reports whether a request may pass; otherwise it has answered 401.
func (r *Registry) admitted(w http.ResponseWriter, req *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, _, _ := splitPath(req.URL.Path)
	flaw := r.flaw(req, name)
	if flaw == "" {
		return true
	}
	if challenge := r.challengeFor(req, name, flaw); challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// flaw returns what is wrong with a request's authentication. The caller holds the lock.
func (r *Registry) flaw(req *http.Request, name string) string {
	switch r.auth.scheme {
	case "basic":
		if username, password, ok := req.BasicAuth(); !ok || username != r.auth.username || password != r.auth.password {
			return "missing"
		}
	case "bearer":
		token, ok := r.auth.tokens[strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")]
		switch {
		case !ok || time.Now().After(token.expires):
			return "missing"
		case name != "" && (!token.covers(name) || r.auth.private[name] && r.auth.username == ""):
			return "insufficient_scope"
		}
	}
	return ""
}

func (t issuedToken) covers(name string) bool {
	for _, scope := range t.scopes {
		if strings.HasPrefix(scope, "repository:"+name+":") && strings.Contains(scope, "pull") {
			return true
		}
	}
	return false
}

func (r *Registry) challengeFor(req *http.Request, name, flaw string) string {
	if r.auth.challenge == "none" && KindOf(req) != Ping {
		return ""
	}
	if r.auth.challenge != "" && r.auth.challenge != "none" {
		return r.auth.challenge
	}
	if r.auth.scheme == "basic" {
		return `Basic realm="test"`
	}
	challenge := fmt.Sprintf(`Bearer realm="%s/token",service="%s"`, r.URL, url.QueryEscape(r.Host))
	if name != "" {
		challenge += fmt.Sprintf(`,scope="repository:%s:pull"`, name)
	}
	if flaw == "insufficient_scope" {
		challenge += `,error="insufficient_scope"`
	}
	return challenge
}
