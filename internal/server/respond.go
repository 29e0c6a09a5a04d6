package server

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"mirror/internal/cache"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

const (
	// maxErrorBody bounds the body of an error answer in bytes. Clients read 64 KiB at most, and show less.
	maxErrorBody = 4096
	// maxMessage bounds the message in it, before escaping.
	maxMessage = 1024
	// unsaidRetryAfter is what a client is told to wait when an upstream limits us and does not say for how long.
	unsaidRetryAfter = time.Minute
	// maxRetryAfter bounds what an upstream can make a client wait.
	maxRetryAfter = time.Hour
	// ownRetryAfter is what a client is told to wait when the trouble is ours and passes by itself.
	ownRetryAfter = 5 * time.Second
)

// refusal is an answer that is no success, in the words of the wire.
type refusal struct {
	status  int
	code    oci.Code
	message string
	// detail is what the upstream said about the content, for people.
	detail string
	// retryAfter is the value of the Retry-After header; zero sends none.
	retryAfter time.Duration
	// contentRange is the value of the Content-Range header of a 416.
	contentRange string
	// hangUp closes the connection after the answer.
	hangUp bool
	// cause is what led to the refusal when the message does not say it. It is for the log only.
	cause error
}

// Error returns the code, the message and the cause.
func (r *refusal) Error() string {
	text := string(r.code) + ": " + r.message
	if r.cause != nil {
		text += ": " + r.cause.Error()
	}
	return text
}

// notFound in a row of the table stands for the code that says so of the kind of content asked for.
const notFound oci.Code = ""

// rule says how an error goes over the wire. In the message, {registry} is the upstream's name.
type rule struct {
	err     error
	status  int
	code    oci.Code
	message string
	retry   time.Duration
}

// rules is the only table from errors of the packages below to the wire. The first row whose error is in the chain
// counts, so what is special stands before what is general.
var rules = []rule{
	{err: mirror.ErrNoUpstream, status: 404, code: oci.NameUnknown,
		message: "this mirror does not serve that registry: pull from it directly, or ask the operator to add it to upstreams"},
	{err: mirror.ErrNeverHeld, status: 404, code: notFound,
		message: "it is not in the cache, and this mirror keeps {registry} offline: pull from the registry itself, or ask the operator (offline of the upstream)"},
	{err: upstream.ErrOffline, status: 503, code: oci.Unavailable,
		message: "the cache does not hold all of it, and this mirror keeps {registry} offline: pull from the registry itself, or ask the operator (offline of the upstream)"},
	{err: upstream.ErrNotAllowed, status: 403, code: oci.Denied,
		message: "this mirror does not serve that repository of {registry}: pull from the registry itself, or ask the operator (allow and deny of the upstream)"},
	{err: upstream.ErrUnknownRepository, status: 404, code: oci.NameUnknown,
		message: "{registry} has no such repository, or it is private and the mirror has no credentials for it: check the name, or ask the operator for credentials"},
	{err: upstream.ErrNoRepository, status: 404, code: oci.NameUnknown,
		message: "{registry} has no such repository: check the name"},
	{err: upstream.ErrNotFound, status: 404, code: notFound,
		message: "{registry} does not have it in this repository: check the name and the reference"},
	{err: cache.ErrNotFound, status: 404, code: notFound,
		message: "it is neither in the cache nor at {registry}: check the name and the reference"},
	{err: upstream.ErrDenied, status: 403, code: oci.Denied,
		message: "{registry} denies access to it: ask the operator whether the mirror's account may read this repository"},
	{err: upstream.ErrUnauthorized, status: 502, code: oci.Unavailable,
		message: "{registry} refused the mirror's credentials: the operator must renew them"},
	{err: upstream.ErrTooManyRequests, status: 429, code: oci.TooManyRequests, retry: unsaidRetryAfter,
		message: "the rate limit of {registry} is used up: wait, or ask the operator to configure an account with a higher limit"},
	{err: upstream.ErrTimeout, status: 504, code: oci.Unavailable,
		message: "{registry} did not answer in time: try again"},
	{err: upstream.ErrUnavailable, status: 502, code: oci.Unavailable,
		message: "{registry} cannot be reached or is in trouble: try again, or pull from it directly"},
	{err: upstream.ErrTooLarge, status: 502, code: oci.SizeInvalid,
		message: "{registry} sent a manifest that is larger than the limit of 4 MiB: pull from it directly"},
	{err: upstream.ErrWrongContent, status: 502, code: oci.Unavailable,
		message: "{registry} sent something else than what was asked for: try again; if it stays so, tell the operator"},
	{err: cache.ErrWrongContent, status: 502, code: oci.Unavailable,
		message: "{registry} sent bytes that do not match their digest, and they were discarded: try again; if it stays so, tell the operator"},
	{err: cache.ErrNoRange, status: 502, code: oci.Unavailable,
		message: "{registry} does not send this blob from the middle on: try again"},
	{err: cache.ErrBusy, status: 429, code: oci.TooManyRequests, retry: unsaidRetryAfter,
		message: "{registry} takes no more requests at the moment: wait, and try again"},
	{err: cache.ErrClosed, status: 503, code: oci.Unavailable, retry: ownRetryAfter,
		message: "this mirror is stopping: try again, or use the next one"},
	{err: cache.ErrAbandoned, status: 503, code: oci.Unavailable, retry: time.Second,
		message: "the download from {registry} was stopped because nobody was waiting for it any more: try again"},
	{err: cache.ErrNoRoom, status: 503, code: oci.Unavailable, retry: ownRetryAfter,
		message: "this mirror has no room left: try again, or ask the operator to raise cache.max_size"},
	{err: cache.ErrDisk, status: 503, code: oci.Unavailable, retry: ownRetryAfter,
		message: "this mirror cannot use its data directory: try again, or ask the operator to look at the disk"},
	{err: context.DeadlineExceeded, status: 504, code: oci.Unavailable,
		message: "{registry} did not answer in time: try again"},
	{err: context.Canceled, status: 503, code: oci.Unavailable, retry: ownRetryAfter,
		message: "this mirror is stopping: try again, or use the next one"},
}

// statuses is the status of each code when a request, or an answer of an upstream, is at fault by itself.
var statuses = map[oci.Code]int{
	oci.BlobUnknown:     404,
	oci.ManifestUnknown: 404,
	oci.ManifestInvalid: 502,
	oci.NameUnknown:     404,
	oci.NameInvalid:     400,
	oci.DigestInvalid:   400,
	oci.SizeInvalid:     502,
	oci.Unsupported:     405,
	oci.Unauthorized:    401,
	oci.Denied:          403,
	oci.TooManyRequests: 429,
	oci.Unavailable:     502,
	oci.Unknown:         500,
}

// refusalFor translates an error. An error that no row knows is a fault of this program.
func refusalFor(err error, k kind, registry string) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	for i := range rules {
		if errors.Is(err, rules[i].err) {
			return rules[i].refusal(err, k, registry)
		}
	}
	if e, ok := errors.AsType[*oci.Error](err); ok && statuses[e.Code] != 0 {
		return &refusal{status: statuses[e.Code], code: e.Code, message: e.Message}
	}
	return internalFault()
}

func internalFault() *refusal {
	return &refusal{status: 500, code: oci.Unknown,
		message: "this mirror failed on the request: try again; if it stays so, tell the operator the X-Request-Id"}
}

func (r *rule) refusal(err error, k kind, registry string) *refusal {
	if registry == "" {
		registry = "the registry"
	}
	answer := &refusal{status: r.status, code: r.code, message: strings.ReplaceAll(r.message, "{registry}", registry)}
	if answer.code == notFound {
		answer.code = unknownCode(k)
	}
	// What the upstream says of its own trouble, or of the mirror's account, names addresses and users that are nobody's
	// business. It is in the log.
	if e, ok := errors.AsType[*upstream.StatusError](err); ok && r.status < 500 {
		answer.detail = e.Message
	}
	if r.retry > 0 {
		answer.retryAfter = retryAfter(err, r.retry)
	}
	return answer
}

func unknownCode(k kind) oci.Code {
	switch k {
	case kindBlob:
		return oci.BlobUnknown
	case kindManifest:
		return oci.ManifestUnknown
	}
	return oci.NameUnknown
}

// retryAfter is what the upstream asked for, within bounds, or the rule's own value.
func retryAfter(err error, unsaid time.Duration) time.Duration {
	if wait := upstream.RetryAfter(err); wait > 0 {
		return min(max(wait, time.Second), maxRetryAfter)
	}
	return unsaid
}

// errorBody is the JSON of an error answer, as the distribution specification wants it.
type errorBody struct {
	Errors [1]errorEntry `json:"errors"`
}

type errorEntry struct {
	Code    oci.Code `json:"code"`
	Message string   `json:"message"`
	Detail  string   `json:"detail,omitempty"`
}

// body returns the JSON, at most maxErrorBody long. Escaping can make text six times longer, so what does not fit is
// dropped in the order of its use: first the detail, then the end of the message.
func (r *refusal) body() []byte {
	entry := errorEntry{Code: r.code, Message: cutText(r.message, maxMessage), Detail: cutText(r.detail, maxMessage)}
	body := entry.encode()
	if len(body) > maxErrorBody {
		entry.Detail = ""
		body = entry.encode()
	}
	if len(body) > maxErrorBody {
		entry.Message = cutText(entry.Message, maxMessage/2)
		body = entry.encode()
	}
	return body
}

func (e errorEntry) encode() []byte {
	body, err := json.Marshal(errorBody{Errors: [1]errorEntry{e}})
	if err != nil {
		panic("BUG: error body cannot be encoded: " + err.Error())
	}
	return body
}

// cutText cuts to a length in bytes; half a character at the end is dropped with the rest of it.
func cutText(text string, length int) string {
	if len(text) <= length {
		return text
	}
	return strings.ToValidUTF8(text[:length], "")
}
