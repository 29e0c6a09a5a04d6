package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// shortestToken is what a token lives at least: a service that says less, or nothing, means this (token
	// specification of the distribution project).
	shortestToken = 60 * time.Second
	// longestToken keeps an absurd promise from being believed for ever.
	longestToken = 24 * time.Hour
	// tokenMargin is the part of a token's life at whose end it is no longer used: clocks differ, requests take time.
	tokenMargin = 0.15
	// maxTokens and maxTokenBody bound memory. Clients choose repository names, and each has its token.
	maxTokens    = 4096
	maxTokenBody = 1 << 20
)

// tokenKey says what a token is good for. The credential is not part of it: a registry has one, and when it changes
// all tokens are dropped.
type tokenKey struct {
	realm, service, scope string
}

// token is what a token service gave.
type token struct {
	value   string
	expires time.Time
}

// tokens remembers tokens and fetches each only once at a time.
type tokens struct {
	mu      sync.Mutex
	kept    map[tokenKey]token
	flights singleflight.Group
}

// lookup returns the token for key while it is good.
func (t *tokens) lookup(key tokenKey) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept, ok := t.kept[key]
	return kept.value, ok && time.Now().Before(kept.expires)
}

// keep remembers a token. When there are too many, those that have expired go first, then any.
func (t *tokens) keep(key tokenKey, value string, life time.Duration) {
	life = min(max(life, shortestToken), longestToken)
	life -= time.Duration(float64(life) * tokenMargin)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil {
		t.kept = make(map[tokenKey]token)
	}
	if len(t.kept) >= maxTokens {
		t.shrink()
	}
	t.kept[key] = token{value: value, expires: time.Now().Add(life)}
}

func (t *tokens) shrink() {
	now := time.Now()
	for key, kept := range t.kept {
		if now.After(kept.expires) {
			delete(t.kept, key)
		}
	}
	for key := range t.kept {
		if len(t.kept) < maxTokens*3/4 {
			return
		}
		delete(t.kept, key)
	}
}

// drop forgets a token that was refused. Of fifty requests that are refused with the same old token only the first
// finds it here; the others must not throw away what the first has fetched since.
func (t *tokens) drop(value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, kept := range t.kept {
		if kept.value == value {
			delete(t.kept, key)
		}
	}
}

func (t *tokens) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.kept)
}

// token returns a token for key, from memory or from the token service. One exchange runs per key, detached from the
// requests that wait for it: the first to ask may go away without the others losing anything.
func (r *Registry) token(ctx context.Context, e *endpoint, key tokenKey) (string, error) {
	if value, ok := r.tokens.lookup(key); ok {
		return value, nil
	}
	flight := r.tokens.flights.DoChan(key.realm+"\n"+key.service+"\n"+key.scope, func() (any, error) {
		// Between the look above and here another exchange may have ended.
		if value, ok := r.tokens.lookup(key); ok {
			return value, nil
		}
		return r.exchange(e, key)
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return "", result.Err
		}
		return result.Val.(string), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// exchange asks the token service. It ends with the registry's life, or when its own time is over.
func (r *Registry) exchange(e *endpoint, key tokenKey) (string, error) {
	ctx, cancel := context.WithTimeoutCause(r.life, r.times.token, errSlow)
	defer cancel()
	realm, err := checkRealm(e.url, key.realm)
	if err != nil {
		return "", err
	}
	secret, err := r.credentials.get(ctx)
	if err != nil {
		return "", err
	}
	req := r.tokenRequest(ctx, realm, key, secret)
	transport := r.home
	if !strings.EqualFold(realm.Hostname(), e.url.Hostname()) {
		if transport, err = r.abroad(req); err != nil {
			return "", fmt.Errorf("%w: token service: %w", ErrDenied, err)
		}
	}
	resp, err := r.send(ctx, transport, kindToken, req)
	if errors.Is(err, errPrivateAddress) {
		return "", fmt.Errorf("%w: token service: %w", ErrDenied, err)
	}
	if err != nil {
		return "", fmt.Errorf("fetch token from %s: %w", redactedURL(realm), r.explain(context.Background(), ctx, err))
	}
	defer discard(resp)
	if resp.StatusCode != http.StatusOK {
		return "", r.tokenRefused(resp)
	}
	return r.readToken(resp, key)
}

// tokenRequest is a GET with basic authentication, or, for a refresh token, the form that OAuth 2 wants.
func (r *Registry) tokenRequest(ctx context.Context, realm *url.URL, key tokenKey, secret credential) *http.Request {
	query := realm.Query()
	if key.service != "" {
		query.Set("service", key.service)
	}
	if key.scope != "" {
		query.Set("scope", key.scope)
	}
	if secret.identity != "" {
		return r.refreshRequest(ctx, realm, query, secret.identity)
	}
	target := *realm
	target.RawQuery = query.Encode()
	req := r.newRequest(ctx, http.MethodGet, &target)
	if !secret.none() {
		req.Header.Set("Authorization", secret.basic())
	}
	return req
}

func (r *Registry) refreshRequest(ctx context.Context, realm *url.URL, form url.Values, identity string) *http.Request {
	form.Set("grant_type", "refresh_token")
	form.Set("client_id", "mirror")
	form.Set("refresh_token", identity)
	body := form.Encode()
	req := r.newRequest(ctx, http.MethodPost, realm)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.ContentLength = int64(len(body))
	req.Body = io.NopCloser(strings.NewReader(body))
	return req
}

// tokenRefused says what it means that the token service did not give a token.
func (r *Registry) tokenRefused(resp *http.Response) error {
	status := r.statusError(resp)
	anonymous := !r.credentials.configured()
	switch {
	case resp.StatusCode == http.StatusUnauthorized && !anonymous:
		r.credentials.forget()
	case resp.StatusCode == http.StatusForbidden && anonymous:
		// Some registries refuse the token where others refuse what it is used for.
		status.meaning = ErrUnknownRepository
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode < 400:
		status.meaning = ErrWrongContent
	}
	return fmt.Errorf("fetch token: %w", status)
}

func (r *Registry) readToken(resp *http.Response, key tokenKey) (string, error) {
	body, err := readBounded(resp.Body, maxTokenBody)
	if err != nil {
		return "", fmt.Errorf("read token: %w: %w", ErrUnavailable, err)
	}
	var answer struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	// The decoder's message is left out, as it may quote the token.
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("read token: %w: the answer is not JSON of the known form", ErrWrongContent)
	}
	value := orDefault(answer.Token, answer.AccessToken)
	if value == "" || strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", fmt.Errorf("read token: %w: the answer holds no usable token", ErrWrongContent)
	}
	r.tokens.keep(key, value, time.Duration(min(answer.ExpiresIn, longestToken.Seconds()))*time.Second)
	return value, nil
}
