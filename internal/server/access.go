package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/mirror"
)

// accessQueue is how many lines may wait to be written. At the rate of a busy node it is a fraction of a second; a log
// that is slower than that loses lines and says how many, but never slows a pull.
const accessQueue = 1024

// accessLog writes one line for each request, off the request's path.
type accessLog struct {
	log     *slog.Logger
	queue   chan *record
	dropped prometheus.Counter
	start   sync.Once
	stop    sync.Once
	closing chan struct{}
	done    chan struct{}
}

func newAccessLog(log *slog.Logger, dropped prometheus.Counter) *accessLog {
	return &accessLog{
		log:     log,
		queue:   make(chan *record, accessQueue),
		dropped: dropped,
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
}

// run writes lines until Close. Only the first call does anything.
func (l *accessLog) run() {
	l.start.Do(func() { go l.write() })
}

// wants reports whether the line of a request will be written.
func (l *accessLog) wants(r *record) bool { return l.log.Enabled(context.Background(), levelOf(r)) }

// add queues the line of a finished request. What an operator must not miss is written at once: it is rare, and the
// queue may be full just then.
func (l *accessLog) add(r *record) {
	if !l.wants(r) {
		return
	}
	if levelOf(r) >= slog.LevelWarn {
		l.line(r)
		return
	}
	select {
	case l.queue <- r:
	default:
		l.dropped.Inc()
	}
}

// levelOf is how much a line matters. Hits, and clients that leave early, are everyday: partial pullers do so all
// the time.
func levelOf(r *record) slog.Level {
	switch {
	case r.status >= 500:
		return slog.LevelError
	case r.cut == cutByContent:
		return slog.LevelWarn
	case r.status >= 400:
		return slog.LevelInfo
	case r.cut == cutByClient, r.kind == kindPing, r.found && r.outcome == mirror.Hit:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func (l *accessLog) write() {
	defer close(l.done)
	for {
		select {
		case r := <-l.queue:
			l.line(r)
		case <-l.closing:
			l.drain()
			return
		}
	}
}

// drain writes what is queued and does not wait for more.
func (l *accessLog) drain() {
	for {
		select {
		case r := <-l.queue:
			l.line(r)
		default:
			return
		}
	}
}

// close writes what is queued and stops. Lines of requests that end later are lost.
func (l *accessLog) close() {
	l.stop.Do(func() { close(l.closing) })
	// A server that never served has no goroutine to wait for.
	l.start.Do(func() { close(l.done) })
	<-l.done
}

// line writes one line, such as "10.0.0.7 GET blob 206 hit disk".
func (l *accessLog) line(r *record) {
	attrs := []slog.Attr{slog.String("request", r.request)}
	if r.repository.Name != "" {
		attrs = append(attrs, slog.String("repository", r.repository.String()))
	}
	switch {
	case r.reference.IsDigest():
		attrs = append(attrs, slog.String("digest", r.reference.String()))
	case r.reference.Tag != "":
		attrs = append(attrs, slog.String("reference", r.reference.Tag))
	}
	attrs = append(attrs, slog.Int64("bytes", r.sent), slog.Duration("duration", r.duration))
	if r.err != nil {
		attrs = append(attrs, slog.String("error", r.err.Error()))
	}
	l.log.LogAttrs(context.Background(), levelOf(r), l.message(r), attrs...)
}

func (l *accessLog) message(r *record) string {
	text := fmt.Sprintf("%s %s %s %d", hostOf(r.client), r.method, r.kind, r.status)
	if r.found {
		text += " " + r.outcome.String() + " " + r.source.String()
	}
	return text
}

// hostOf is the address without the port, which says nothing a day later.
func hostOf(a net.Addr) string {
	if a == nil {
		return "-"
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
