package upstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"mirror/internal/oci"
)

const (
	// maxErrorBody is how much of an error's body is read, in bytes; containerd reads as much.
	maxErrorBody = 64 << 10
	// maxMessage is how much of its text is kept.
	maxMessage = 512
	// maxCode bounds an error code; the longest registered one has 21 characters.
	maxCode = 64
	// longestRetryAfter is the most that an upstream can make us wait by Retry-After.
	longestRetryAfter = time.Hour
)

// statusError reads an answer that is no success. It reads the body but leaves closing to the caller.
func (r *Registry) statusError(resp *http.Response) *StatusError {
	e := &StatusError{
		Registry: r.name, Method: resp.Request.Method, URL: redactedURL(resp.Request.URL), Status: resp.StatusCode,
		RetryAfter: retryAfterOf(resp, time.Now()),
		meaning:    r.statusMeaning(resp.StatusCode), advice: r.advice(resp.StatusCode),
	}
	// An unreadable body leaves the status, which is enough.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	e.Code, e.Message = readErrorBody([]byte(r.scrub(string(body), resp.Request)), resp.Header.Get("Content-Type"))
	// In JSON, a secret may have been written in another way.
	e.Code, e.Message = oci.Code(r.scrub(string(e.Code), resp.Request)), r.scrub(e.Message, resp.Request)
	if e.Code == oci.NameUnknown && e.meaning == ErrNotFound { //nolint:errorlint // ours, and not wrapped
		e.meaning = ErrNoRepository
	}
	return e
}

// statusMeaning returns the sentinel for a status that is no success.
func (r *Registry) statusMeaning(status int) error {
	switch {
	case status == http.StatusUnauthorized && r.Anonymous():
		return ErrUnknownRepository
	case status == http.StatusUnauthorized:
		return ErrUnauthorized
	case status == http.StatusForbidden:
		return ErrDenied
	case status == http.StatusNotFound, status == http.StatusGone,
		status == http.StatusNotAcceptable, status == http.StatusUnsupportedMediaType:
		return ErrNotFound
	case status == http.StatusTooManyRequests:
		return ErrTooManyRequests
	case status >= 500, status == http.StatusRequestTimeout:
		return ErrUnavailable
	}
	return ErrWrongContent
}

// readErrorBody returns the first error of a body in the distribution specification's form, or Docker Hub's "details",
// or the start of a plain text. A web page says nothing to anybody.
func readErrorBody(body []byte, contentType string) (oci.Code, string) {
	var form struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details string `json:"details"`
	}
	if err := json.Unmarshal(body, &form); err == nil {
		if len(form.Errors) > 0 {
			return oci.Code(clean(form.Errors[0].Code, maxCode)), clean(form.Errors[0].Message, maxMessage)
		}
		return "", clean(form.Details, maxMessage)
	}
	if mediaType(contentType) == "text/plain" {
		return "", clean(string(body), maxMessage)
	}
	return "", ""
}

// clean makes a stranger's text fit for a log line: valid, printable, one line, at most limit bytes.
func clean(text string, limit int) string {
	text = strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return ' '
		}
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(text[:min(len(text), 4*limit)], ""))
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

// retryAfterOf returns how long an answer asks us to wait. An answer to one request too many that does not say so may
// tell when the limit begins anew.
func retryAfterOf(resp *http.Response, now time.Time) time.Duration {
	if said := parseRetryAfter(resp.Header.Get("Retry-After"), now); said > 0 || resp.StatusCode != http.StatusTooManyRequests {
		return said
	}
	if q, ok := readQuota(resp.Header, now); ok && q.remaining == 0 {
		return min(orDefault(q.reset, q.window), longestRetryAfter)
	}
	return 0
}

// parseRetryAfter reads seconds or a date. What cannot be read, and the past, are zero.
func parseRetryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, longestRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), longestRetryAfter)
	}
	return 0
}

// discard ends an answer whose body does not matter. A short rest is read, so that the connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	_ = resp.Body.Close()
}

// readBounded reads a whole body of at most limit bytes; a longer one is an ErrTooLarge.
func readBounded(body io.Reader, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return content, nil
}

// mediaType returns a Content-Type without parameters, in lower case.
func mediaType(contentType string) string {
	base, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(base))
}
