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
	passwords          func(username, password string) bool // instead of the two above
	refusal            int                                  // status of wrong basic authentication; 0 means 401
	formless           int                                  // status of every form at the token service; 0 means that it takes them
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

// SetPasswords replaces the one user name and password of RequireToken or RequireBasic by a function, for passwords that
// somebody else gives out and ends. A refresh token comes without a user name.
func (r *Registry) SetPasswords(accepts func(username, password string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.passwords = accepts
}

// SetRefusal sets the status with which a wrong user name or password is refused; Amazon's is 403. Without any, the
// answer stays 401.
func (r *Registry) SetRefusal(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.refusal = status
}

// RefuseForms makes the token service answer forms, which OAuth 2 wants, with a status: 400, 401, 404 and 405 are seen.
func (r *Registry) RefuseForms(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.formless = status
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
	if req.Method == http.MethodPost && r.auth.formless != 0 {
		writeError(w, r.auth.formless, "UNSUPPORTED", "no forms here")
		return
	}
	if !r.auth.admits(req) {
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

// admits reports whether the token service gives a token to who has sent this. Its form is parsed.
func (a *auth) admits(req *http.Request) bool {
	username, password, _ := req.BasicAuth()
	if req.PostForm.Get("grant_type") == "refresh_token" {
		username, password = "", req.PostForm.Get("refresh_token")
		if a.passwords == nil {
			return password == a.password
		}
	}
	return a.passwords == nil && a.username == "" || a.takes(username, password)
}

// takes reports whether a user name and password are right.
func (a *auth) takes(username, password string) bool {
	if a.passwords != nil {
		return a.passwords(username, password)
	}
	return username == a.username && password == a.password
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
	if flaw == "wrong" && r.auth.refusal != 0 {
		writeError(w, r.auth.refusal, "DENIED", "your authorization token has expired")
		return false
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
		username, password, ok := req.BasicAuth()
		if !ok {
			return "missing"
		}
		if !r.auth.takes(username, password) {
			return "wrong"
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
