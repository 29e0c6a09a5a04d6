package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/upstream/signin"
)

// teller is a source that gives "password-1", "password-2" and so on, each after a second.
type teller struct {
	mu    sync.Mutex
	calls int
	life  time.Duration
	err   error
}

func (s *teller) fetch(ctx context.Context) (credential, time.Duration, error) {
	if !pause(ctx, time.Second) {
		return credential{}, 0, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return credential{username: "u", password: fmt.Sprintf("password-%d", s.calls)}, s.life, s.err
}

func (s *teller) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *teller) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// bank is the credentials of a teller, in a bubble of synctest.
type bank struct {
	*teller
	*credentials
	log bytes.Buffer
}

func inBubble(t *testing.T, life time.Duration, story func(t *testing.T, b *bank)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bank{teller: &teller{life: life}}
		s := &source{fetch: b.fetch, patience: cloudPatience, expiryIs403: true}
		b.credentials = newCredentials(t.Context(), s, slog.New(slog.NewTextHandler(&b.log, nil)))
		story(t, b)
	})
}

// wants gets the credential and says which it must be, how long that may take, and how often the source was asked.
func (b *bank) wants(t *testing.T, n int, wait time.Duration, calls int) {
	t.Helper()
	begin := time.Now()
	got, err := b.get(t.Context())
	if err != nil || got.password != fmt.Sprintf("password-%d", n) {
		t.Errorf("got %q, %v, want password-%d", got.password, err, n)
	}
	if waited := time.Since(begin); waited != wait {
		t.Errorf("waited %v, want %v", waited, wait)
	}
	synctest.Wait()
	if n := b.asked(); n != calls {
		t.Errorf("the source was asked %d times, want %d", n, calls)
	}
}

func TestCredentialIsFetchedOnceForAll(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if got, err := b.get(t.Context()); err != nil || got.password != "password-1" {
					t.Errorf("got %q, %v", got.password, err)
				}
			})
		}
		group.Wait()
		b.wants(t, 1, 0, 1)
	})
}

func TestCredentialIsRefreshedAhead(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		b.wants(t, 1, time.Second, 1)
		time.Sleep(49 * time.Minute)
		b.wants(t, 1, 0, 1) // nobody waits for the refresh that this starts
		b.wants(t, 1, 0, 1)
		time.Sleep(2 * time.Second)
		b.wants(t, 2, 0, 2)
	})
}

func TestUnusedCredentialIsLeftToEnd(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		b.wants(t, 1, time.Second, 1)
		time.Sleep(time.Hour)
		b.wants(t, 2, time.Second, 2)
	})
}

func TestRefreshThatFailsKeepsTheOld(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		b.wants(t, 1, time.Second, 1)
		time.Sleep(49 * time.Minute)
		b.fail(errors.New("the cloud is down"))
		for i := range 3 {
			b.wants(t, 1, 0, 1+i)
			time.Sleep(time.Second)
			synctest.Wait()
			b.wants(t, 1, 0, 2+i) // a failure is not followed by the next attempt at once
			time.Sleep(credentialFault)
		}
		if text := b.log.String(); strings.Count(text, "could not be refreshed") != 3 || !strings.Contains(text, "the cloud is down") || strings.Contains(text, "password-") {
			t.Errorf("logged %s", text)
		}
		time.Sleep(10 * time.Minute)
		if _, err := b.get(t.Context()); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("after its end: %v, want ErrUnauthorized", err)
		}
	})
}

func TestFailureIsRememberedBriefly(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		b.fail(fmt.Errorf("%w: no route", signin.ErrUnavailable))
		for range 20 {
			if _, err := b.get(t.Context()); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnauthorized) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
		}
		if n := b.asked(); n != 1 {
			t.Errorf("the source was asked %d times, want 1", n)
		}
		b.fail(nil)
		time.Sleep(credentialFault)
		b.wants(t, 2, time.Second, 2)
	})
}

func TestCallerDoesNotTakeTheCredentialAlong(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the caller's time", err)
		}
		b.wants(t, 1, time.Second-time.Millisecond, 1)
	})
}

func TestSlowSource(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		b.source.fetch = func(ctx context.Context) (credential, time.Duration, error) {
			<-ctx.Done()
			return credential{}, 0, ctx.Err()
		}
		begin := time.Now()
		if _, err := b.get(t.Context()); !errors.Is(err, ErrUnavailable) || time.Since(begin) != credentialTimeout {
			t.Errorf("got %v after %v, want ErrUnavailable after %v", err, time.Since(begin), credentialTimeout)
		}
	})
}

func TestRefusedCredential(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		b.wants(t, 1, time.Second, 1)
		old, _ := b.get(t.Context())
		if b.refused(old, http.StatusUnauthorized) {
			t.Error("a credential of this moment was given up for a refusal")
		}
		time.Sleep(cloudPatience)
		if b.refused(old, http.StatusForbidden) {
			t.Error("a credential of seconds ago was given up for a 403, which is a missing permission")
		}
		time.Sleep(deniedPatience)
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if !b.refused(old, http.StatusForbidden) {
					t.Error("an old credential was kept")
				}
				if got, err := b.get(t.Context()); err != nil || got.password != "password-2" {
					t.Errorf("got %q, %v", got.password, err)
				}
			})
		}
		group.Wait()
		if !b.refused(old, http.StatusUnauthorized) {
			t.Error("who comes late with the old one is not told of the new one")
		}
		b.wants(t, 2, 0, 2)
	})
}

func TestForgottenCredential(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, b *bank) {
		early := make(chan string)
		go func() {
			got, _ := b.get(t.Context())
			early <- got.password
		}()
		time.Sleep(time.Millisecond)
		b.forget()
		b.wants(t, 2, time.Second, 2)
		if got := <-early; got != "password-1" {
			t.Errorf("who waited got %q", got)
		}
		b.wants(t, 2, 0, 2)
	})
}

func TestAnonymous(t *testing.T) {
	c := newCredentials(t.Context(), nil, nil)
	if got, err := c.get(t.Context()); err != nil || !got.none() || c.configured() || c.refused(credential{}, 401) {
		t.Errorf("got %+v, %v", got, err)
	}
	c.forget()
}

func TestTokenIsOldBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept tokens
		key := tokenKey{scope: "x"}
		f := func(after time.Duration, wantOK, wantOld bool) {
			t.Helper()
			time.Sleep(after)
			if _, ok, old := kept.lookup(key); ok != wantOK || old != wantOld {
				t.Errorf("good %v, old %v, want %v, %v", ok, old, wantOK, wantOld)
			}
		}
		f(0, false, false)
		kept.keep(key, "t", 100*time.Second)
		f(69*time.Second, true, false)
		f(2*time.Second, true, true)
		kept.postpone(key)
		f(tokenPause-time.Second, true, false)
		f(time.Second, true, true)
		f(10*time.Second, false, true)
	})
}
