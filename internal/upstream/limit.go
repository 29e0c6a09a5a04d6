package upstream

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// minBurst keeps a small bandwidth from cutting reads to crumbs.
const minBurst = 64 << 10

// limits are what the operator allows towards one upstream. A nil limiter does not limit.
type limits struct {
	requests  *rate.Limiter
	bandwidth *rate.Limiter
	// connections has a place for each call that may be under way at once.
	connections *places
	// transfers has a place for each blob that may be on its way at once. They are fewer than the connections, so that
	// the check of a tag never waits behind layers.
	transfers *places
	// perBlob is how many connections one blob may take.
	perBlob int
}

func newLimits(c Limits) *limits {
	l := &limits{
		connections: newPlaces(c.Connections),
		transfers:   newPlaces(c.Connections - max(1, c.Connections/8)),
		perBlob:     c.BlobConnections,
	}
	if c.Requests > 0 {
		l.requests = rate.NewLimiter(rate.Limit(c.Requests), c.Requests)
	}
	if c.Bandwidth > 0 {
		// A tenth of a second's worth at a time keeps the rate even without waking up for every packet.
		l.bandwidth = rate.NewLimiter(rate.Limit(c.Bandwidth), max(int(c.Bandwidth/10), minBurst))
	}
	return l
}

// errLimited: our own limit, not the upstream's; nothing was sent.
var errLimited = fmt.Errorf("%w: limits.requests of the configuration is used up", ErrTooManyRequests)

// longestRequestWait is how long a request waits at most for its turn within limits.requests. Whoever asks has content
// that is stale, or is better told when to come back.
const longestRequestWait = 5 * time.Second

// request waits for the permission to send one request. When that would be long, or after ctx's deadline, there is no wait.
// Whatever ends it, the upstream is not to blame, so the reason is always our limit.
func (l *limits) request(ctx context.Context) error {
	if l.requests == nil {
		return nil
	}
	turn := l.requests.Reserve()
	wait := turn.Delay()
	if wait == 0 {
		return nil
	}
	deadline, hasDeadline := ctx.Deadline()
	if wait > longestRequestWait || hasDeadline && time.Until(deadline) < wait || !pause(ctx, wait) {
		turn.Cancel()
		return &PauseError{RetryAfter: max(wait, time.Second), reason: errLimited}
	}
	return nil
}

// spare returns how many transfers may begin that nobody waits for. It leaves half of all to clients that come, and none may
// while anybody waits for what is limited.
func (l *limits) spare() int {
	if l.connections.waiting() > 0 || l.transfers.waiting() > 0 ||
		l.requests != nil && l.requests.Tokens() < 1 || l.bandwidth != nil && l.bandwidth.Tokens() < 0 {
		return 0
	}
	return max(0, l.transfers.most()/2-l.transfers.inUse())
}

// share is how many bytes are read at a time within a bandwidth. Transfers take turns, so equal turns are equal shares,
// however large the buffers of their readers are.
const share = minBurst

// head is how many bytes of a transfer do not wait for the bandwidth, though they count: a client that waits for the first
// byte must not queue behind those that are in the middle of a layer.
const head = 32 << 10

// room returns how many of n bytes may be read at a time.
func (l *limits) room(n int) int {
	if l.bandwidth == nil {
		return n
	}
	return min(n, share)
}

// charge counts n received bytes, no more than room said, without waiting: whoever waits next waits for them too.
func (l *limits) charge(n int) {
	if l.bandwidth != nil {
		l.bandwidth.ReserveN(time.Now(), n)
	}
}

// received waits until n received bytes, no more than room said, are within the bandwidth. The sender is slowed by the
// receive window filling up.
func (l *limits) received(ctx context.Context, n int) error {
	if l.bandwidth == nil || n == 0 {
		return nil
	}
	return l.bandwidth.WaitN(ctx, n)
}
