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
	"time"
)

const (
	// maxTokenBody bounds a token service's answer, in bytes.
	maxTokenBody = 1 << 20
	// maxToken bounds a token, in bytes. It is sent in a header, of which servers take some 8 to 32 KiB, and one is held for
	// each repository that clients name.
	maxToken = 32 << 10
)

// exchange asks the token service, with the next credential when the first one is refused. It ends with the registry's
// life, or when its own time is over.
func (r *Registry) exchange(e *endpoint, key tokenKey) (string, error) {
	ctx, cancel := context.WithTimeoutCause(r.life, r.times.token, errSlow)
	defer cancel()
	realm, err := r.checkRealm(e.url, key.realm)
	if err != nil {
		return "", err
	}
	held := r.accounts[key.account].credentials
	secret, err := held.get(ctx)
	if err != nil {
		return "", err
	}
	value, err := r.exchangeWith(ctx, e, realm, key, secret)
	if status := statusOf(err); !held.mayHaveEnded(status) || !held.refused(secret, status) {
		return value, err
	}
	next, errNext := held.get(ctx)
	if errNext != nil || next == secret {
		return "", err // what the service said tells more
	}
	return r.exchangeWith(ctx, e, realm, key, next)
}

// exchangeWith shows one credential to the token service. A refresh token goes into a form, as OAuth 2 wants it; where
// the service does not take that, it goes the way of a password.
func (r *Registry) exchangeWith(ctx context.Context, e *endpoint, realm *url.URL, key tokenKey, secret credential) (string, error) {
	if secret.identity == "" || r.tokens.noForm.noted() {
		return r.askToken(ctx, e, key, r.passwordRequest(ctx, realm, key, secret))
	}
	value, err := r.askToken(ctx, e, key, r.refreshRequest(ctx, realm, key, secret.identity))
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed:
		if value, errGet := r.askToken(ctx, e, key, r.passwordRequest(ctx, realm, key, secret)); errGet == nil {
			r.tokens.noForm.note()
			return value, nil
		}
	}
	return value, err
}

// askToken sends a request to the token service and reads the token.
func (r *Registry) askToken(ctx context.Context, e *endpoint, key tokenKey, req *http.Request) (string, error) {
	resp, err := r.sendToken(ctx, e, req)
	if errors.Is(err, errPrivateAddress) {
		return "", fmt.Errorf("%w: token service: %w", ErrDenied, err)
	}
	if err != nil {
		return "", fmt.Errorf("fetch token from %s: %w", redactedURL(req.URL), r.explain(context.Background(), ctx, err))
	}
	defer discard(resp)
	if resp.StatusCode != http.StatusOK {
		return "", r.tokenRefused(resp)
	}
	return r.readToken(resp, key)
}

// sendToken chooses the way to the token service. On the endpoint's own host it is part of the endpoint. Elsewhere it
// is a place that an upstream named, unless the operator has named it too.
func (r *Registry) sendToken(ctx context.Context, e *endpoint, req *http.Request) (*http.Response, error) {
	switch {
	case strings.EqualFold(req.URL.Hostname(), e.url.Hostname()):
		return r.send(ctx, r.wire.Load().home, kindToken, req)
	case r.listsTokenHost(req.URL):
		return r.send(context.WithValue(ctx, named{}, true), r.wire.Load().elsewhere(req), kindToken, req)
	}
	transport, err := r.abroad(req)
	if err != nil {
		return nil, err
	}
	return r.send(ctx, transport, kindToken, req)
}

// passwordRequest is a GET with basic authentication, or with none for an anonymous registry.
func (r *Registry) passwordRequest(ctx context.Context, realm *url.URL, key tokenKey, secret credential) *http.Request {
	target := *realm
	target.RawQuery = key.query(realm).Encode()
	req := r.newRequest(ctx, http.MethodGet, &target)
	if secret.password == "" && secret.identity != "" {
		secret.username, secret.password = orDefault(secret.username, "<token>"), secret.identity
	}
	if !secret.none() {
		req.Header.Set("Authorization", secret.basic())
	}
	return req
}

// refreshRequest is a form with a refresh token.
func (r *Registry) refreshRequest(ctx context.Context, realm *url.URL, key tokenKey, identity string) *http.Request {
	form := key.query(realm)
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

// query adds what a token is to be good for to what the realm brings along.
func (k tokenKey) query(realm *url.URL) url.Values {
	query := realm.Query()
	if k.service != "" {
		query.Set("service", k.service)
	}
	if k.scope != "" {
		query.Set("scope", k.scope)
	}
	return query
}

// tokenRefused says what it means that the token service did not give a token.
func (r *Registry) tokenRefused(resp *http.Response) error {
	status := r.statusError(resp)
	switch {
	case resp.StatusCode == http.StatusForbidden && r.Anonymous():
		// Some registries refuse the token where others refuse what it is used for.
		status.meaning = ErrUnknownRepository
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode < 400:
		status.meaning = ErrWrongContent
	}
	return fmt.Errorf("fetch token: %w", status)
}

// readToken takes the token out of an answer, and remembers it.
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
	if value == "" || len(value) > maxToken || strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", fmt.Errorf("read token: %w: the answer holds no usable token", ErrWrongContent)
	}
	r.tokens.keep(key, value, time.Duration(min(answer.ExpiresIn, longestToken.Seconds()))*time.Second)
	return value, nil
}
