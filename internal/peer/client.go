package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// HoldTime is how long a member keeps an asker waiting for bytes that are on their way to it before it says so. An asker
	// that hears nothing for longer looks whether the member still lives, so this is the grain in which death is noticed.
	HoldTime = 300 * time.Millisecond
	// stallTime is how long a member that is sending, or due to answer, may be silent before it is looked after.
	stallTime = 300 * time.Millisecond
	// pingTime is how long it then has to answer a ping. Silence of both is death; a machine that is merely busy
	// manages that much.
	pingTime = 700 * time.Millisecond
	// dialTime bounds the making of a connection to a member.
	dialTime = 500 * time.Millisecond
	// stuckTime is how long a member may be silent that answers pings: its network works, and it sends nothing all the same.
	stuckTime = 15 * time.Second
	// noEnd is for members that may take as long as they like, as long as they live.
	noEnd = time.Duration(math.MaxInt64)
	// probeTime is how long ranks are waited for that are asked only if they hold something.
	probeTime = 100 * time.Millisecond
	// idleConnections are kept to each member: as many as a fill has chunks in flight.
	idleConnections = 8
)

// answer is what a member said.
type answer struct {
	status int
	header http.Header
	body   io.ReadCloser // of a StatusContent; closed by whoever got the answer
	start  int64         // of the body
	size   int64         // of the whole blob; -1 when it is not known
	node   string        // of a StatusAskOther
	moving int           // see transfer.movingAt; as far as the one who answers knows
	whole  bool
}

// caller sends requests to members. It follows no redirect: each request needs its own signature, and goes to members only.
type caller struct {
	signer cluster
	http   *http.Client
	pings  *http.Client
}

func newCaller(signer cluster) *caller {
	transport := func(idle int) *http.Transport {
		return &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
			MaxIdleConnsPerHost: idle,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
			ReadBufferSize:      64 << 10,
		}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &caller{
		signer: signer,
		http:   &http.Client{Transport: transport(idleConnections), CheckRedirect: stay},
		pings:  &http.Client{Transport: transport(1), CheckRedirect: stay, Timeout: pingTime},
	}
}

func (c *caller) close() {
	c.http.CloseIdleConnections()
	c.pings.CloseIdleConnections()
}

// request builds a signed request to a member.
func (c *caller) request(ctx context.Context, to *Member, r Request) (*http.Request, Proof, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://"+to.Transfer.String()+r.Target, nil)
	if err != nil {
		return nil, Proof{}, fmt.Errorf("peer %s: %w", to.Name, err)
	}
	authorization, proof := c.signer.Sign(to.Name, r)
	set := func(key, value string) {
		if value != "" {
			request.Header.Set(key, value)
		}
	}
	set("Authorization", authorization)
	set("Range", r.Range)
	set(HeaderHop, r.Hop)
	set(HeaderDead, r.Dead)
	set(HeaderSlow, r.Slow)
	if r.OnlyIfCached {
		set("Cache-Control", OnlyIfCached)
	}
	return request, proof, nil
}

// ask asks a member for bytes of a chunk. An error means that the member could not be reached or answered nonsense.
func (c *caller) ask(ctx context.Context, to *Member, a Ask) (*answer, error) {
	request, _, err := c.request(ctx, to, a.signed())
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", to.Name, withoutURL(err))
	}
	said, err := readAnswer(response, a)
	if err != nil {
		_ = response.Body.Close() // who knows what would come
		return nil, fmt.Errorf("peer %s: %w", to.Name, err)
	}
	if said.body == nil {
		drain(response.Body)
	}
	return said, nil
}

// withoutURL takes the address out of an error of net/http: which member it was is said already.
func withoutURL(err error) error {
	type unwrapper interface{ Unwrap() error }
	if u, ok := err.(unwrapper); ok {
		return u.Unwrap()
	}
	return err
}

// drain reads the little that an answer without content may have, so that the connection can be used again.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close() // whatever it says, nothing more is read from it
}

// readAnswer checks an answer against what was asked.
func readAnswer(response *http.Response, a Ask) (*answer, error) {
	h := response.Header
	said := &answer{status: response.StatusCode, header: h, size: -1, whole: h.Get(HeaderWhole) == "1"}
	if size, err := parseCount(h.Get(HeaderSize)); err == nil {
		said.size = size
	}
	if moving, err := parseCount(h.Get(HeaderMoving)); err == nil && moving < movingMost {
		said.moving = int(moving)
	}
	switch response.StatusCode {
	case StatusAskOther:
		if said.node = h.Get(HeaderNode); !isName(said.node) {
			return nil, fmt.Errorf("%w: sent elsewhere without a name", ErrMalformed)
		}
	case StatusContent:
		return said, said.open(response, a)
	}
	return said, nil
}

// open checks that the content is what was asked for, to the byte; the end of the blob may come sooner.
func (said *answer) open(response *http.Response, a Ask) error {
	start, end, size, err := parseContentRange(response.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	if start != a.Start || end != min(a.End, size) || response.ContentLength != end-start {
		return fmt.Errorf("%w: asked for bytes %d to %d, the answer holds %d to %d of %d", ErrMalformed, a.Start, a.End, start, end, size)
	}
	said.body, said.start, said.size = response.Body, start, size
	return nil
}

// parseContentRange reads "bytes a-b/size".
func parseContentRange(header string) (start, end, size int64, err error) {
	span, total, ok := strings.Cut(header, "/")
	if size, err = parseCount(total); err == nil && ok {
		start, end, err = parseSpan(strings.Replace(span, " ", "=", 1))
	}
	if err != nil || !ok || end > size {
		return 0, 0, 0, fmt.Errorf("%w: Content-Range %q", ErrMalformed, header)
	}
	return start, end, size, nil
}

// ping reports whether a member answers anything at all.
func (c *caller) ping(ctx context.Context, to *Member) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.Transfer.String()+PathPing, nil)
	if err != nil {
		return false
	}
	response, err := c.pings.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	drain(response.Body)
	return true
}

// RefusedError is a refusal of the upstream that the member which asked it passes on: everybody who waits gets it, and
// nobody asks again.
type RefusedError struct {
	Peer string
	// Status is what the upstream has answered to that member; zero when there is a Cause.
	Status int
	// RetryAfter is the upstream's wish, or zero.
	RetryAfter time.Duration
	// Cause is what this node met itself, when it was the one that asked the upstream.
	Cause error
}

// Refused marks a failure of the upstream as one that asking others does not help against.
func Refused(cause error) error { return &RefusedError{Status: http.StatusNotFound, Cause: cause} }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }

// Error names the member and the status.
func (e *RefusedError) Error() string {
	if e.Cause != nil {
		return e.Cause.Error()
	}
	return fmt.Sprintf("the upstream refused with status %d, says peer %s", e.Status, e.Peer)
}

// Final tells whether asking others would be wrong: the registry does not have it, or does not give it to this cluster.
func (e *RefusedError) Final() bool { return e.Status != http.StatusTooManyRequests }

// maxRetryAfter bounds what is believed of a wish of an upstream: none means longer.
const maxRetryAfter = 24 * time.Hour

// refusal returns the error for an answer with a status that the upstream gave, or nil.
func refusal(from string, said *answer) error {
	switch said.status {
	case http.StatusNotFound, http.StatusForbidden, http.StatusTooManyRequests:
		seconds, err := parseCount(said.header.Get("Retry-After"))
		if err != nil {
			seconds = 0
		}
		return &RefusedError{Peer: from, Status: said.status, RetryAfter: time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second}
	}
	return nil
}

// Ends of a transfer from a member: it is dead, or another one sends faster.
var (
	errSilent = errors.New("the peer has fallen silent")
	errSlow   = errors.New("another peer is faster")
)
