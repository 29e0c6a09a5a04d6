package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"mirror/internal/upstream/signin"
)

// SignInAdvice says which line of configuration an anonymous upstream of a cloud may lack, and whether nothing at all can
// be pulled without it. It is empty for an upstream that has credentials, or is of no cloud.
func (c Config) SignInAdvice() (advice string, required bool) {
	form, private := signin.Form(c.cloudHost())
	if form == "" || c.Credentials.forms() > 0 {
		return "", false
	}
	return fmt.Sprintf("to sign in, add \"credentials: {%s: {}}\" to its upstream", form), private
}

// TrySignIn gets a credential from the cloud that the configuration names, as the first request of a running mirror
// would. It does nothing for the other forms of credentials, which the registry alone can judge. c must be valid.
func (c Config) TrySignIn(ctx context.Context) error {
	if c.Credentials.ECR == nil && c.Credentials.Google == nil && c.Credentials.Azure == nil {
		return nil
	}
	set, err := New([]Config{c}, "check", "check", slog.New(slog.DiscardHandler), unscraped())
	if err != nil {
		return err
	}
	defer set.Close()
	_, err = set.all[0].credentials.get(ctx)
	return err
}

// advice is what is added to the error for a status, when the configuration may be the reason.
func (r *Registry) advice(status int) string {
	if status != http.StatusUnauthorized && status != http.StatusForbidden {
		return ""
	}
	advice, _ := r.config.SignInAdvice()
	return advice
}
