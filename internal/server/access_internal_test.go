package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// blockedWriter blocks until it is let go, like a terminal that was stopped.
type blockedWriter struct {
	gate chan struct{}
	bytes.Buffer
}

func (w *blockedWriter) Write(p []byte) (int, error) {
	<-w.gate
	return w.Buffer.Write(p)
}

// TestAccessLogNeverBlocks fills the queue of a log that stands still.
func TestAccessLogNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &blockedWriter{gate: make(chan struct{})}
		m := testCrowd(1, 1).metrics
		l := newAccessLog(slog.New(slog.NewTextHandler(out, nil)), m.accessLost)
		l.run()
		for range accessQueue + 100 {
			l.add(&record{status: 200, kind: kindBlob, found: true, outcome: mirror.Miss})
		}
		synctest.Wait()
		lost := int(testutil.ToFloat64(m.accessLost))
		if lost < 99 || lost > 100 {
			t.Errorf("lost %d lines, want what does not fit into the queue", lost)
		}
		close(out.gate)
		l.close()
		if got := strings.Count(out.String(), "\n"); got != accessQueue+100-lost {
			t.Errorf("wrote %d lines and lost %d of %d", got, lost, accessQueue+100)
		}
	})
}

func TestAccessLogClosedBeforeUse(t *testing.T) {
	l := newAccessLog(slog.New(slog.DiscardHandler), testCrowd(1, 1).metrics.accessLost)
	l.close()
	l.close()
	l.run()
}

func TestAccessLines(t *testing.T) {
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1234}
	repository := oci.Repository{Registry: "docker.io", Name: "library/alpine"}
	f := func(r record, want ...string) {
		t.Helper()
		var out bytes.Buffer
		l := newAccessLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), nil)
		l.line(&r)
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("got %s, want %q in it", out.String(), w)
			}
		}
	}
	f(record{request: "r1", client: client, method: methodGet, kind: kindBlob, status: 206, found: true, outcome: mirror.Hit,
		source: mirror.Disk, repository: repository, reference: oci.Reference{Digest: oci.MustParseDigest(digest256)}, sent: 42, duration: time.Second},
		"level=DEBUG", `msg="192.0.2.7 GET blob 206 hit disk"`, "request=r1", "repository=docker.io/library/alpine", "digest="+digest256, "bytes=42", "duration=1s")
	f(record{client: client, method: methodHead, kind: kindManifest, status: 200, found: true, outcome: mirror.Stale, source: mirror.Memory,
		repository: repository, reference: oci.Reference{Tag: "3.20"}}, "level=INFO", "HEAD manifest 200 stale memory", "reference=3.20")
	f(record{client: client, status: 502, err: errors.New("upstream docker.io: no luck")}, "level=ERROR", "error=", "no luck")
	f(record{client: client, status: 404}, "level=INFO")
	f(record{client: client, status: 200, cut: cutByContent, err: io.ErrUnexpectedEOF}, "level=WARN")
	f(record{client: client, status: 200, cut: cutByClient, found: true, outcome: mirror.Miss}, "level=DEBUG")
	f(record{status: 200, kind: kindPing}, "level=DEBUG", `msg="- other ping 200"`)
}

// TestUrgentLinesAreWrittenAtOnce checks that what an operator must see does not wait in the queue.
func TestUrgentLinesAreWrittenAtOnce(t *testing.T) {
	var out bytes.Buffer
	l := newAccessLog(slog.New(slog.NewTextHandler(&out, nil)), nil)
	l.add(&record{status: 500, err: errors.New("surprise")})
	l.add(&record{status: 200, kind: kindPing})
	if !strings.Contains(out.String(), "surprise") || len(l.queue) != 0 {
		t.Errorf("got %q and %d lines queued", out.String(), len(l.queue))
	}
	if !l.log.Enabled(context.Background(), slog.LevelInfo) {
		t.Error("the test's log is off")
	}
}
