package upstream

import (
	"context"
	"strconv"
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
	// tokenUse is the part of a token's life for which it is used: clocks differ, requests take time. A token that is in
	// use is fetched anew after tokenAhead of its life, and nobody waits for that.
	tokenUse   = 0.85
	tokenAhead = 0.7
	// tokenPause is how long after a refresh that failed the next one starts.
	tokenPause = 5 * time.Second
	// maxTokens bounds memory. Clients choose repository names, and each has its token.
	maxTokens = 4096
)

// tokenKey says what a token is good for, and whose it is. The credential is not part of it: an account has one, and when
// it changes all tokens are dropped.
type tokenKey struct {
	realm, service, scope string
	account               int // its place
}

// String is different for different keys.
func (k tokenKey) String() string {
	return strings.Join([]string{strconv.Itoa(k.account), k.realm, k.service, k.scope}, "\n")
}

// token is what a token service gave.
type token struct {
	value   string
	fetched time.Time
	ahead   time.Time // from then on, it is refreshed when it is used
	expires time.Time // from then on, it is not used
}

// tokens remembers tokens and fetches each only once at a time.
type tokens struct {
	mu      sync.Mutex
	kept    map[tokenKey]token
	flights singleflight.Group
	noForm  absence // the token service does not take a refresh token in a form
}

// lookup returns the token for key while it is good, and whether it is time to fetch the next one.
func (t *tokens) lookup(key tokenKey) (value string, ok, old bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	kept, found := t.kept[key]
	return kept.value, found && now.Before(kept.expires), found && !now.Before(kept.ahead)
}

// postpone notes that a token could not be refreshed, so that not every use of it tries again.
func (t *tokens) postpone(key tokenKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kept, ok := t.kept[key]; ok {
		kept.ahead = time.Now().Add(tokenPause)
		t.kept[key] = kept
	}
}

// keep remembers a token. When there are too many, those that have expired go first, then any.
func (t *tokens) keep(key tokenKey, value string, life time.Duration) {
	life = min(max(life, shortestToken), longestToken)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil {
		t.kept = make(map[tokenKey]token)
	}
	if len(t.kept) >= maxTokens {
		t.shrink()
	}
	now := time.Now()
	t.kept[key] = token{
		value: value, fetched: now, ahead: now.Add(portion(life, tokenAhead)), expires: now.Add(portion(life, tokenUse)),
	}
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
// requests that wait for it: the first to ask may go away without the others losing anything. A token that will end soon
// is refreshed by the way.
func (r *Registry) token(ctx context.Context, e *endpoint, key tokenKey) (string, error) {
	value, ok, old := r.tokens.lookup(key)
	if ok && !old {
		return value, nil
	}
	flight := r.tokens.flights.DoChan(key.String(), func() (any, error) {
		// Between the look above and here another exchange may have ended.
		if value, ok, old := r.tokens.lookup(key); ok && !old {
			return value, nil
		}
		value, err := r.exchange(e, key)
		if err != nil {
			r.tokens.postpone(key)
		}
		return value, err
	})
	if ok {
		return value, nil
	}
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
