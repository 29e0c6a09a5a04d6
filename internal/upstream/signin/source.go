package signin

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// ErrUnavailable says that a service that takes part in signing in did not answer, or is in trouble itself. Asking again
// later may help. Every other error of a Source is about configuration or permissions.
var ErrUnavailable = errors.New("unavailable")

// Credential is what a registry is shown.
type Credential struct {
	Username string
	Password string
	// Identity is a refresh token, which only the registry's token service takes. It is empty where there is none.
	Identity string
}

// Grant is a credential and how long it is good.
type Grant struct {
	Credential Credential
	// Life is counted from when it was fetched, and measured by the service's own clock: what this machine takes for
	// the time of day does not count.
	Life time.Duration
}

// Source fetches a credential. It may block as long as its context lives, and may be called by many goroutines.
type Source func(ctx context.Context) (Grant, error)

// Send makes one request and follows no redirect.
type Send func(*http.Request) (*http.Response, error)

// Platform is what a Source finds around it.
type Platform struct {
	// Cloud sends requests to a cloud's services.
	Cloud Send
	// Registry sends requests to the registry itself.
	Registry Send
	// Getenv reads the environment.
	Getenv func(string) string
}
