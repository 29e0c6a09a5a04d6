package server

import (
	"context"
	"io"
	"time"

	"golang.org/x/time/rate"

	"mirror/internal/cache"
	"mirror/internal/peer"
)

const (
	// uploadsMost bounds how many chunks are sent to peers at once. A node of a rollout to 5,000 sends 16 to 20; what is more
	// would only make all of them slower.
	uploadsMost = 64
	// uploadSlice is how many bytes are sent at a time within a limit. Peers take turns, so equal turns are equal shares. With
	// every place taken and the lowest limit each of them has its turn within four seconds.
	uploadSlice = 64 << 10
)

// uploads bounds what this node sends to peers.
type uploads struct {
	places    chan struct{} // one for each that is being sent
	bandwidth *rate.Limiter // nil does not limit
}

// newUploads returns the bounds of a node that may send so many bytes a second, 0 for as many as there are.
func newUploads(bandwidth int64) *uploads {
	u := &uploads{places: make(chan struct{}, uploadsMost)}
	if bandwidth > 0 {
		// A tenth of a second's worth at a time keeps the rate even without waking up for every packet.
		u.bandwidth = rate.NewLimiter(rate.Limit(bandwidth), max(int(bandwidth/10), uploadSlice))
	}
	return u
}

// enter takes a place, for which an asker waits no longer than for anything else.
func (u *uploads) enter(ctx context.Context) bool {
	timer := time.NewTimer(peer.HoldTime)
	defer timer.Stop()
	select {
	case u.places <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// leave gives the place back.
func (u *uploads) leave() { <-u.places }

// send writes a piece within the bandwidth. Without a limit it goes out in one go.
func (u *uploads) send(ctx context.Context, w io.Writer, p *cache.Piece) (sent int64, err error) {
	if u.bandwidth == nil {
		return p.WriteTo(w)
	}
	span := p.Span()
	for sent < span.Len() && err == nil {
		slice := min(uploadSlice, span.Len()-sent)
		if err = u.bandwidth.WaitN(ctx, int(slice)); err != nil {
			break
		}
		var n int64
		n, err = p.WriteRange(w, span.Start+sent, slice)
		sent += n
	}
	return sent, err
}
