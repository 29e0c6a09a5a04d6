package signin

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// readOAuth reads an answer in OAuth's form, a token with its life or an error. secrets are what was sent.
func readOAuth(a answer, secrets ...string) (token string, life time.Duration, err error) {
	var form struct {
		Token   string `json:"access_token"`
		Expires any    `json:"expires_in"` // a number, or, of Azure's metadata service, a text with one
		Error   string `json:"error"`
		Message string `json:"error_description"`
	}
	err = a.decode(&form)
	if a.status != http.StatusOK {
		return "", 0, a.refusal(form.Error, form.Message, secrets...)
	}
	if err != nil {
		return "", 0, err
	}
	if form.Token == "" || strings.ContainsFunc(form.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", 0, fmt.Errorf("read answer of %s: no usable access_token in it", a.from)
	}
	return form.Token, seconds(form.Expires), nil
}

// seconds reads a number of seconds; what is none is zero. A day bounds it, so that no promise overflows.
func seconds(value any) time.Duration {
	var n float64
	switch v := value.(type) {
	case float64:
		n = v
	case string:
		_ = json.Unmarshal([]byte(v), &n) // leaves zero
	}
	return time.Duration(min(max(n, 0), 86400)) * time.Second
}

// webTokenLife returns how long a JSON web token is good, by its own words: from its issue to its end, whatever this
// machine's clock says. The token is not checked, as it is not we who are to believe it.
func webTokenLife(token string) time.Duration {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0
	}
	var claims struct {
		Issued  float64 `json:"iat"`
		Expires float64 `json:"exp"`
	}
	if err := json.Unmarshal(text, &claims); err != nil || claims.Issued == 0 {
		return 0
	}
	return seconds(claims.Expires - claims.Issued)
}
