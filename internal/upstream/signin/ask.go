package signin

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
	"unicode"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes. The largest real one, a role's session, has three thousand.
	maxAnswer = 256 << 10
	// maxMessage bounds what is repeated of a service's message, in bytes.
	maxMessage = 300
	// metadataTimeout bounds a question to a metadata service. It is on this machine or the next, and where there is
	// none, nobody answers at all.
	metadataTimeout = 2 * time.Second
)

// question is one request to a service.
type question struct {
	method string
	url    string
	header map[string]string
	body   string
}

// post returns a question that sends a form.
func post(target string, form url.Values) question {
	return question{
		method: http.MethodPost, url: target, body: form.Encode(),
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
	}
}

// answer is what a service said.
type answer struct {
	from   string // address without its query
	status int
	body   []byte
	date   time.Time // of the service's clock; zero when it did not tell
}

// request builds the request of a question.
func (q question) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, strings.NewReader(q.body))
	if err != nil {
		return nil, fmt.Errorf("build request to %s: not a usable address", bare(q.url))
	}
	for key, value := range q.header {
		req.Header.Set(key, value)
	}
	return req, nil
}

// ask sends a question and reads the answer, whatever its status.
func ask(ctx context.Context, send Send, q question) (answer, error) {
	req, err := q.request(ctx)
	if err != nil {
		return answer{}, err
	}
	return exchange(send, req)
}

// askMetadata is ask for a service that is near or not there.
func askMetadata(ctx context.Context, send Send, q question) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	return ask(ctx, send, q)
}

func exchange(send Send, req *http.Request) (answer, error) {
	from := bare(req.URL.String())
	resp, err := send(req)
	if err != nil {
		return answer{}, fmt.Errorf("%w: ask %s: %w", ErrUnavailable, from, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("%w: read answer of %s: %w", ErrUnavailable, from, err)
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		date = time.Time{}
	}
	return answer{from: from, status: resp.StatusCode, body: body, date: date}, nil
}

// decode reads a JSON answer. The decoder's message is left out, as it may quote a secret.
func (a answer) decode(into any) error {
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("read answer of %s: not JSON of the known form", a.from)
	}
	return nil
}

// refusal is the error for an answer that is no success. code and message are the service's; secrets are what it was
// sent and must not repeat.
func (a answer) refusal(code, message string, secrets ...string) error {
	text := fmt.Sprintf("%s answered %d", a.from, a.status)
	if code = clean(code, secrets); code != "" {
		text += " " + code
	}
	if message = clean(message, secrets); message != "" {
		text += ": " + message
	}
	if a.status >= 500 || a.status == http.StatusTooManyRequests || a.status == http.StatusRequestTimeout {
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	}
	return errors.New(text)
}

// clean makes a service's text fit for a log line, without secrets.
func clean(text string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(secret)")
			text = strings.ReplaceAll(text, url.QueryEscape(secret), "(secret)")
		}
	}
	text = strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return ' '
		}
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(text, ""))
	return strings.ToValidUTF8(text[:min(len(text), maxMessage)], "")
}

// bare returns what of an address may be shown.
func bare(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(not a URL)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// orDefault returns the first text that is not empty.
func orDefault(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
