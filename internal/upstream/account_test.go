package upstream_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// club is a registry whose members each have a token and a rate limit of their own.
type club struct {
	*upstreamtest.Registry
	mu      sync.Mutex
	tokens  map[string]upstreamtest.Fault // what the token service answers a member
	answers map[string]upstreamtest.Fault // what the registry answers a member
	asked   map[string]int                // manifest requests by member
	logins  map[string]int                // token requests by member
}

func newClub(t *testing.T, members ...string) *club {
	t.Helper()
	c := &club{
		Registry: upstreamtest.New(t), tokens: map[string]upstreamtest.Fault{}, answers: map[string]upstreamtest.Fault{},
		asked: map[string]int{}, logins: map[string]int{},
	}
	for _, member := range members {
		c.tokens[member] = upstreamtest.Fault{Status: http.StatusOK, Body: fmt.Sprintf(`{"token":"token-of-%s"}`, member)}
	}
	c.AddImage("app", "1", 10)
	c.Hook(c.serve)
	return c
}

func (c *club) serve(req *http.Request) *upstreamtest.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if upstreamtest.KindOf(req) == upstreamtest.Token {
		member, _, _ := req.BasicAuth()
		c.logins[member]++
		answer := c.tokens[member]
		return &answer
	}
	member, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer token-of-")
	if !ok {
		challenge := fmt.Sprintf("Bearer realm=%q", c.URL+"/token")
		return &upstreamtest.Fault{Status: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {challenge}}}
	}
	c.asked[member]++
	answer := c.answers[member]
	return &answer
}

// says changes what the registry answers a member.
func (c *club) says(member string, answer upstreamtest.Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[member] = answer
}

// count returns how many requests of a member there were since the last count.
func (c *club) count(member string) (asked, logins int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked, logins = c.asked[member], c.logins[member]
	delete(c.asked, member)
	delete(c.logins, member)
	return asked, logins
}

// left is an answer that says how many of a hundred requests are left.
func left(n int) upstreamtest.Fault {
	return upstreamtest.Fault{Header: http.Header{
		"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {fmt.Sprintf("%d;w=21600", n)},
	}}
}

// join connects to a club as several members.
func (c *club) join(t *testing.T, members ...string) client {
	t.Helper()
	return connect(t, c.Registry, func(config *upstream.Config) {
		for _, member := range members {
			file := filepath.Join(t.TempDir(), member)
			if err := os.WriteFile(file, []byte("password-of-"+member), 0o600); err != nil {
				t.Fatal(err)
			}
			config.Accounts = append(config.Accounts, upstream.Credentials{Username: member, PasswordFile: file})
		}
	})
}

func (c client) pull(t *testing.T, want error) {
	t.Helper()
	if _, err := c.Manifest(t.Context(), "app", tag("1")); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestAccountWithMostLeftIsUsed(t *testing.T) {
	c := newClub(t, "alice", "bob")
	r := c.join(t, "alice", "bob")
	if r.Anonymous() {
		t.Error("anonymous with two accounts")
	}
	f := func(want string, alice, bob int) {
		t.Helper()
		c.says("alice", left(alice))
		c.says("bob", left(bob))
		r.pull(t, nil)
		for _, member := range []string{"alice", "bob"} {
			if n, _ := c.count(member); (n == 1) != (member == want) {
				t.Errorf("%s was asked as %d times, want all as %s", member, n, want)
			}
		}
	}
	f("alice", 50, 100) // nothing is known yet
	f("bob", 50, 40)
	f("alice", 30, 40)
	f("bob", 30, 35)
	f("bob", 30, 20)
	f("alice", 30, 20)
	if b := r.Budget(); b.Left < 0.29 || b.Left > 0.31 {
		t.Errorf("%v is left, want the best account's", b.Left)
	}
}

func TestLimitOfOneAccountLeavesTheOthers(t *testing.T) {
	c := newClub(t, "alice", "bob")
	r := c.join(t, "alice", "bob")
	c.says("alice", tooMany("Retry-After", "60"))
	for range 3 {
		r.pull(t, nil)
	}
	if n, _ := c.count("alice"); n != 1 {
		t.Errorf("alice, who is limited, was asked as %d times", n)
	}
	if r.Budget().Exhausted() {
		t.Error("exhausted although bob has no limit")
	}
	c.says("bob", tooMany("Retry-After", "30"))
	r.pull(t, upstream.ErrTooManyRequests)
	c.count("bob")
	for range 3 {
		r.pull(t, upstream.ErrTooManyRequests)
	}
	if n, _ := c.count("bob"); n != 0 {
		t.Errorf("bob, who is limited, was asked as %d times", n)
	}
	if b := r.Budget(); !b.Exhausted() || time.Until(b.Until) > 30*time.Second {
		t.Errorf("got %+v, want a pause until the first account may go on", b)
	}
}

func TestRefusedAccountIsSetAside(t *testing.T) {
	c := newClub(t, "alice", "bob")
	c.tokens["alice"] = upstreamtest.Fault{Status: http.StatusUnauthorized}
	r := c.join(t, "alice", "bob")
	for range 3 {
		r.pull(t, nil)
	}
	c.AddImage("other", "1", 10)
	if _, err := r.Manifest(t.Context(), "other", tag("1")); err != nil {
		t.Error(err)
	}
	if _, logins := c.count("alice"); logins == 0 || logins > 2 { // a password is read again once
		t.Errorf("alice, whom the token service refuses, logged in %d times", logins)
	}
}

// Some token services deny the token where others deny what it is used for. Clients choose the repositories, and what one
// asks for in vain must not take an account away from the others.
func TestTokenThatIsDeniedForOneRepository(t *testing.T) {
	c := newClub(t, "alice", "bob")
	c.tokens["alice"] = upstreamtest.Fault{Status: http.StatusForbidden}
	r := c.join(t, "alice", "bob")
	r.pull(t, nil)
	for _, a := range r.Condition().Accounts {
		if !a.AsideUntil.IsZero() {
			t.Errorf("%s is set aside", a.Key)
		}
	}
	c.mu.Lock()
	c.tokens["alice"] = upstreamtest.Fault{Status: http.StatusOK, Body: `{"token":"token-of-alice"}`}
	c.mu.Unlock()
	c.says("bob", upstreamtest.Fault{Status: http.StatusForbidden})
	r.pull(t, nil)
}

// Whoever has to come back is told when the first of the accounts may go on.
func TestSoonestOfTheLimitsCounts(t *testing.T) {
	for _, first := range []string{"alice", "bob"} {
		c := newClub(t, "alice", "bob")
		c.says("alice", tooMany("Retry-After", "3000"))
		c.says("bob", tooMany("Retry-After", "3000"))
		c.says(first, tooMany("Retry-After", "30"))
		r := c.join(t, "alice", "bob")
		for range 2 {
			_, err := r.Manifest(t.Context(), "app", tag("1"))
			limitedBy(t, err, time.Second, 30*time.Second)
		}
	}
}

// When nobody is left, everybody is tried: the operator may have put things right.
func TestAllAccountsAreRefused(t *testing.T) {
	c := newClub(t)
	for _, member := range []string{"alice", "bob"} {
		c.tokens[member] = upstreamtest.Fault{Status: http.StatusUnauthorized}
	}
	r := c.join(t, "alice", "bob")
	r.pull(t, upstream.ErrUnauthorized)
	c.mu.Lock()
	c.tokens["bob"] = upstreamtest.Fault{Status: http.StatusOK, Body: `{"token":"token-of-bob"}`}
	c.mu.Unlock()
	r.pull(t, nil)
}

// A repository that one account may not read is read as another, and the first one stays in use.
func TestRepositoryThatOneAccountMayNotRead(t *testing.T) {
	c := newClub(t, "alice", "bob")
	c.says("alice", upstreamtest.Fault{Status: http.StatusForbidden})
	r := c.join(t, "alice", "bob")
	r.pull(t, nil)
	c.says("alice", upstreamtest.Fault{})
	c.count("alice")
	r.pull(t, nil)
	if n, _ := c.count("alice"); n != 1 {
		t.Error("alice was set aside for a repository that she may not read")
	}
	c.says("alice", upstreamtest.Fault{Status: http.StatusForbidden})
	c.says("bob", tooMany())
	r.pull(t, upstream.ErrTooManyRequests) // bob might have been let in
	c = newClub(t, "alice", "bob")
	c.says("alice", upstreamtest.Fault{Status: http.StatusForbidden})
	c.says("bob", upstreamtest.Fault{Status: http.StatusForbidden})
	c.join(t, "alice", "bob").pull(t, upstream.ErrDenied)
}

// What is not there is not looked for as everybody.
func TestMissingIsMissingForAllAccounts(t *testing.T) {
	c := newClub(t, "alice", "bob")
	c.says("alice", upstreamtest.Fault{Status: http.StatusNotFound})
	c.join(t, "alice", "bob").pull(t, upstream.ErrNotFound)
	if n, logins := c.count("bob"); n+logins != 0 {
		t.Errorf("bob was asked as %d times", n+logins)
	}
}

func TestBasicAccountIsSetAside(t *testing.T) {
	c := newClub(t)
	requests := map[string]int{}
	c.Hook(func(req *http.Request) *upstreamtest.Fault {
		text, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(req.Header.Get("Authorization"), "Basic "))
		member, _, _ := strings.Cut(string(text), ":")
		c.mu.Lock()
		defer c.mu.Unlock()
		requests[member]++
		if member == "bob" {
			return nil
		}
		return &upstreamtest.Fault{Status: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {`Basic realm="club"`}}}
	})
	r := c.join(t, "alice", "bob")
	for range 5 {
		r.pull(t, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if requests["alice"] > 2 || requests["bob"] != 5 {
		t.Errorf("requests by member: %v", requests)
	}
}
