package upstream

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// maxKnown bounds what is remembered about which repository wants which authentication.
const maxKnown = 4096

// demand is what an endpoint wants to see for a repository, learned from a challenge.
type demand struct {
	basic bool
	token tokenKey // when not basic
}

// demands remembers what was learned, so that the next request brings its token along.
type demands struct {
	mu    sync.Mutex
	known map[string]demand // by endpoint and repository
}

func demandKey(e *endpoint, repository string) string { return e.url.String() + " " + repository }

func (d *demands) lookup(e *endpoint, repository string) (demand, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found, ok := d.known[demandKey(e, repository)]
	return found, ok
}

func (d *demands) learn(e *endpoint, repository string, what demand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || len(d.known) >= maxKnown {
		// Starting afresh costs one refused request per repository in use.
		d.known = make(map[string]demand)
	}
	d.known[demandKey(e, repository)] = what
}

func (d *demands) forget(e *endpoint, repository string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, demandKey(e, repository))
}

// login is the authentication of one call: what was sent last, and which scopes a token was fetched for already.
type login struct {
	registry   *Registry
	endpoint   *endpoint
	account    *account
	repository string
	sent       string     // value of the Authorization header
	shown      credential // what a basic header holds
	asked      map[tokenKey]bool
	reset      bool // the call was repeated without authentication once
	renewed    bool // the call was repeated with a newer credential once
}

// authenticated sends the call to the endpoint, with what the endpoint is known to want, and answers challenges until
// it is content or there is nothing more to offer. The last answer may still be a 401.
func (r *Registry) authenticated(ctx context.Context, e *endpoint, a *account, c call) (*http.Request, *http.Response, error) {
	l := &login{registry: r, endpoint: e, account: a, repository: c.repository, asked: map[tokenKey]bool{}}
	if err := l.prepare(ctx); err != nil {
		return nil, nil, err
	}
	for {
		req := r.request(ctx, e, c)
		if l.sent != "" {
			req.Header.Set("Authorization", l.sent)
		}
		resp, err := r.sendHome(ctx, e, c.kind, req)
		if err == nil {
			r.observe(e, a, resp.Header)
		}
		if err != nil || !l.refused(resp.StatusCode) {
			return req, resp, err
		}
		again, err := l.answer(ctx, resp)
		if err != nil {
			discard(resp)
			return nil, nil, err
		}
		if !again {
			return req, resp, nil
		}
		discard(resp)
	}
}

// refused reports whether a status means that the authentication was not good enough.
func (l *login) refused(status int) bool {
	return status == http.StatusUnauthorized || !l.shown.none() && l.account.credentials.mayHaveEnded(status)
}

// prepare offers what the endpoint wanted last time.
func (l *login) prepare(ctx context.Context) error {
	known, ok := l.registry.demands.lookup(l.endpoint, l.repository)
	if !ok {
		return l.offerEarly(ctx)
	}
	if known.basic {
		return l.offerBasic(ctx)
	}
	key := known.token
	key.account = l.account.place // it may have been another account that learned this
	// A token from memory may have been withdrawn, so this does not count as having asked.
	value, err := l.registry.token(ctx, l.endpoint, key)
	if err != nil {
		return err
	}
	l.sent = "Bearer " + value
	return nil
}

// answer finds out what a refusal wants. It returns false when that was offered already.
func (l *login) answer(ctx context.Context, resp *http.Response) (again bool, err error) {
	if resp.StatusCode == http.StatusForbidden {
		return l.renewBasic(ctx, resp.StatusCode)
	}
	challenges := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	if len(challenges) == 0 {
		if challenges, err = l.ping(ctx); err != nil {
			return false, err
		}
	}
	if value, isToken := strings.CutPrefix(l.sent, "Bearer "); isToken {
		l.registry.tokens.drop(value)
	}
	if bearer, ok := findChallenge(challenges, "bearer"); ok {
		return l.answerBearer(ctx, bearer)
	}
	// Some registries ask for basic authentication when it was really the token that they did not like. Without any
	// they say what they want.
	if strings.HasPrefix(l.sent, "Bearer ") && !l.reset {
		l.registry.demands.forget(l.endpoint, l.repository)
		l.sent, l.reset = "", true
		return true, nil
	}
	if _, ok := findChallenge(challenges, "basic"); !ok || !l.account.credentials.configured() {
		return false, nil
	}
	if !l.shown.none() {
		return l.renewBasic(ctx, resp.StatusCode)
	}
	l.registry.demands.learn(l.endpoint, l.repository, demand{basic: true})
	return true, l.offerBasic(ctx)
}

// offerEarly shows the credential before the endpoint has asked, where the configuration wants that: some registries
// answer strangers with less than they answer members, rather than with a challenge.
func (l *login) offerEarly(ctx context.Context) error {
	if !l.account.config.Preemptive {
		return nil
	}
	secret, err := l.account.credentials.get(ctx)
	if err != nil || secret.password == "" {
		return err // a refresh token is for the token service, which a challenge will name
	}
	l.sent, l.shown = secret.basic(), secret
	return nil
}

// offerBasic shows the credential itself.
func (l *login) offerBasic(ctx context.Context) error {
	secret, err := l.account.credentials.get(ctx)
	if err != nil {
		return err
	}
	if secret.username == "" && secret.password == "" {
		return fmt.Errorf("%w: the upstream wants a password, and the configured credential is a refresh token", ErrUnauthorized)
	}
	l.sent, l.shown = secret.basic(), secret
	return nil
}

// renewBasic replaces a credential that was refused, once: passwords that a cloud gives end, and files change. When there
// is no other, the account is refused.
func (l *login) renewBasic(ctx context.Context, status int) (again bool, err error) {
	if l.account.credentials.refused(l.shown, status) && !l.renewed {
		l.renewed = true
		before := l.shown
		if err := l.offerBasic(ctx); err != nil {
			return false, err
		}
		again = l.shown != before
	}
	if !again && status == http.StatusUnauthorized {
		l.registry.setAside(l.account, ErrUnauthorized)
	}
	return again, nil
}

// answerBearer fetches a token to pull from the repository. When one was refused already, the scope that the challenge
// names is tried, once.
func (l *login) answerBearer(ctx context.Context, bearer challenge) (again bool, err error) {
	if _, err := l.registry.checkRealm(l.endpoint.url, bearer.params["realm"]); err != nil {
		return false, err
	}
	key := tokenKey{
		realm: bearer.params["realm"], service: bearer.params["service"], scope: pullScope(l.repository), account: l.account.place,
	}
	challenged := readOnly(bearer.params["scope"])
	if challenged != "" && (l.asked[key] || bearer.params["error"] == "insufficient_scope") {
		key.scope = challenged
	}
	if l.asked[key] {
		return false, nil
	}
	l.asked[key] = true
	l.registry.demands.learn(l.endpoint, l.repository, demand{token: key})
	value, err := l.registry.token(ctx, l.endpoint, key)
	if err != nil {
		return false, err
	}
	l.sent, l.shown = "Bearer "+value, credential{}
	return true, nil
}

// pullScope is what we ever want: to read one repository. Without a repository (a ping) it is nothing.
func pullScope(repository string) string {
	if repository == "" {
		return ""
	}
	return "repository:" + repository + ":pull"
}

// readOnly leaves of the scope in a challenge what is about reading, whatever else the account may do: the endpoint gets the
// token, and may not be where its token service is.
func readOnly(scope string) string {
	var kept []string
	for _, item := range strings.Fields(scope) {
		at := strings.LastIndex(item, ":")
		actions := slices.DeleteFunc(strings.Split(item[at+1:], ","), func(action string) bool {
			return !slices.Contains([]string{"pull", "list", "metadata_read"}, action)
		})
		if at > 0 && len(actions) > 0 {
			kept = append(kept, item[:at+1]+strings.Join(actions, ","))
		}
	}
	return strings.Join(kept, " ")
}

// ping asks the endpoint's root for a challenge that the refused request came without.
func (l *login) ping(ctx context.Context) ([]challenge, error) {
	r := l.registry
	req := r.request(ctx, l.endpoint, call{kind: kindPing, method: http.MethodGet, path: "/v2/"})
	resp, err := r.send(ctx, r.wire.Load().home, kindPing, req)
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	if resp.StatusCode != http.StatusUnauthorized {
		return nil, nil
	}
	return parseChallenges(resp.Header.Values("WWW-Authenticate")), nil
}
