package upstream

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// scrub cuts everything secret that a request has carried out of what a server said about it: some repeat what they
// were sent, and errors end up in logs.
func (r *Registry) scrub(text string, req *http.Request) string {
	var secrets []string
	for _, a := range r.accounts {
		known := a.credentials.current()
		secrets = append(secrets, known.password, known.identity)
	}
	if _, value, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		secrets = append(secrets, value, passwordOf(value))
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(secret)")
		}
	}
	return text
}

// passwordOf returns the password in the value of a basic Authorization header, or nothing for another kind of value.
func passwordOf(value string) string {
	text, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return ""
	}
	_, password, _ := strings.Cut(string(text), ":")
	return password
}
