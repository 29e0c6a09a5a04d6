package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"mirror/internal/upstream/signin"
)

// SignInAdvice says which line of configuration an anonymous upstream of a cloud may lack, and whether nothing at all can
// be pulled without it. It is empty for an upstream that has credentials, or is of no cloud.
func (c Config) SignInAdvice() (advice string, required bool) {
	form, private := signin.Form(c.cloudHost())
	if form == "" || !c.anonymous() {
		return "", false
	}
	return fmt.Sprintf("to sign in, add \"credentials: {%s: {}}\" to its upstream", form), private
}

// inCloud reports whether the credentials come from a cloud.
func (c Credentials) inCloud() bool { return c.ECR != nil || c.Google != nil || c.Azure != nil }

// TrySignIn gets the credentials that the configuration wants from clouds, as the first requests of a running mirror would.
// It does nothing for the other forms of credentials, which the registry alone can judge. c must be valid. Each of
// the joined errors begins with the key of its account.
func (c Config) TrySignIn(ctx context.Context) error {
	if !slices.ContainsFunc(c.Identities(), func(one Identity) bool { return one.inCloud() }) {
		return nil
	}
	set, err := New([]Config{c}, "check", "check", slog.New(slog.DiscardHandler), unscraped())
	if err != nil {
		return err
	}
	defer set.Close()
	var errs []error
	for _, a := range set.all[0].accounts {
		if !a.config.inCloud() {
			continue
		}
		if _, err := a.credentials.get(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.key, err))
		}
	}
	return errors.Join(errs...)
}

// advice is what is added to the error for a status, when the configuration may be the reason.
func (r *Registry) advice(status int) string {
	if status != http.StatusUnauthorized && status != http.StatusForbidden {
		return ""
	}
	advice, _ := r.config.SignInAdvice()
	return advice
}
