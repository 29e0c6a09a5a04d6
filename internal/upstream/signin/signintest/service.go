package signintest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// Request is one request that a service has received.
type Request struct {
	// Kind says what was asked for, in a word of the service's own.
	Kind   string
	Method string
	Path   string
	Header http.Header
	Body   string
}

// service is what all clouds have.
type service struct {
	// URL is the base URL of all the cloud's services.
	URL     string
	handler http.HandlerFunc

	mu       sync.Mutex // guards everything below
	ahead    time.Duration
	life     time.Duration
	delay    time.Duration
	refusals map[string]int // status by kind
	requests []Request
	secrets  []string
	valid    map[string]bool // passwords that were given out and have not ended
}

// start begins to answer. kind names what a request asks for; answer answers it.
func (s *service) start(t testing.TB, life time.Duration, kind func(*http.Request) string, answer func(http.ResponseWriter, *http.Request, Request)) {
	t.Helper()
	s.life, s.refusals, s.valid = life, map[string]int{}, map[string]bool{}
	s.handler = func(w http.ResponseWriter, req *http.Request) {
		seen := s.record(req, kind)
		w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
		if status := s.refusal(seen.Kind); status != 0 {
			refuse(w, status, seen)
			return
		}
		answer(w, req, seen)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
}

// ServeHTTP answers as URL does, for a cloud that is a part of another server.
func (s *service) ServeHTTP(w http.ResponseWriter, req *http.Request) { s.handler(w, req) }

func (s *service) record(req *http.Request, kind func(*http.Request) string) Request {
	body, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(body))
	seen := Request{Kind: kind(req), Method: req.Method, Path: req.URL.Path, Header: req.Header.Clone(), Body: string(body)}
	req.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.requests = append(s.requests, seen)
	delay := s.delay
	s.mu.Unlock()
	time.Sleep(delay)
	return seen
}

// refuse says no in every form that the clouds use, and repeats what it was sent, as careless services do.
func refuse(w http.ResponseWriter, status int, seen Request) {
	// The shortest comes first, as messages are cut.
	echo := seen.Header.Get("X-Amz-Security-Token") + " " + seen.Header.Get("X-Aws-Ec2-Metadata-Token") + " " + seen.Body +
		" " + seen.Header.Get("Authorization")
	writeJSON(w, status, map[string]any{
		"__type": "com.amazonaws#AccessDeniedException", "message": "no: " + echo,
		"error": "access_denied", "error_description": "no: " + echo,
		"errors": []map[string]string{{"code": "DENIED", "message": echo}},
	})
}

func (s *service) refusal(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusals[kind]
}

// Refuse makes every question of a kind fail with a status; 0 ends that.
func (s *service) Refuse(kind string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals[kind] = status
}

// SetClock makes the service live ahead of this machine's clock, or behind it.
func (s *service) SetClock(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

// SetLife sets how long what is given out from now on is good.
func (s *service) SetLife(life time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = life
}

// SetDelay makes every answer wait, so that a crowd can gather.
func (s *service) SetDelay(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = delay
}

// Expire ends everything that was given out so far.
func (s *service) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.valid)
}

// Count returns how many questions of a kind there were.
func (s *service) Count(kind string) int {
	n := 0
	for _, request := range s.Requests() {
		if request.Kind == kind {
			n++
		}
	}
	return n
}

// Requests returns everything that was asked.
func (s *service) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Secrets returns every secret that the service has given out or must be shown.
func (s *service) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// secret makes up a secret and remembers it.
func (s *service) secret() string { return s.keep(rand.Text()) }

func (s *service) keep(secret string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secret)
	return secret
}

// give remembers a password that a registry is to take.
func (s *service) give(password string) string {
	s.keep(password)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.valid[password] = true
	return password
}

func (s *service) accepts(password string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.valid[password]
}

func (s *service) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.ahead)
}

func (s *service) lifetime() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
