package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/peer"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

const sharedChunk = 64 << 10

// pair is a mirror in a cluster of two. The other member, called other, does what the test says.
type pair struct {
	*house
	other *peer.Group
	log   *text
}

// text keeps what is logged.
type text struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *text) lines(word string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.String(), word)
}

// join starts a member of a cluster on loopback.
func join(t *testing.T, name, transfer string, seeds ...string) *peer.Group {
	t.Helper()
	cfg := peer.Defaults()
	cfg.Name, cfg.Listen, cfg.Transfer, cfg.Join, cfg.ChunkSize = name, "127.0.0.1:0", transfer, seeds, sharedChunk
	g, err := peer.New(cfg, peer.DefaultSettings(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return g
}

func openPair(t *testing.T, origin *upstreamtest.Registry, answer func(p *pair) http.HandlerFunc, options ...option) *pair {
	t.Helper()
	p := &pair{log: &text{}}
	var handler http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == peer.PathPing {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	p.other = join(t, "other", strings.TrimPrefix(server.URL, "http://"))
	self := join(t, "self", "127.0.0.1:1", p.other.Addr().String())
	for deadline := time.Now().Add(20 * time.Second); len(self.View().Members()) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the two do not find each other")
		}
	}
	registry := prometheus.NewRegistry()
	exchange, err := peer.NewExchange(self, sharedChunk, slog.New(slog.DiscardHandler), registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exchange.Close)
	disk := cachetest.Config(t)
	up := upstream.Config{Registry: "registry.test", Default: true, Endpoints: []string{origin.URL}}
	for _, o := range options {
		o(&up, &disk)
	}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	p.house = openWith(t, origin, mirror.Parts{Peers: exchange, ShareTags: true}, log, disk, up)
	handler = answer(p)
	return p
}

// ownedByOther adds a blob of three chunks, one of which the other member owns for sure.
func ownedByOther(origin *upstreamtest.Registry, repo string, chunk int64) upstreamtest.Content {
	for i := 0; ; i++ {
		content := make([]byte, 3*sharedChunk)
		copy(content, strconv.Itoa(i))
		d := oci.DigestOf(oci.SHA256, content)
		if peer.Higher(peer.ChunkKey(d, chunk), "other", "self") {
			origin.AddBlob(repo, content)
			return upstreamtest.Content{Descriptor: oci.Descriptor{Digest: d, Size: int64(len(content))}, Bytes: content}
		}
	}
}

// tagOfOther returns a tag that the other member owns.
func tagOfOther(repo string) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("v", i); peer.Higher(peer.TagKey("registry.test", repo, name), "other", "self") {
			return name
		}
	}
}

// sendChunk answers with bytes of content.
func sendChunk(w http.ResponseWriter, r *http.Request, content []byte) {
	var start, end int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	end = min(end+1, len(content))
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, len(content)))
	w.Header().Set("Content-Length", strconv.Itoa(end-start))
	w.WriteHeader(peer.StatusContent)
	_, _ = w.Write(content[start:end])
}

// Wrong bytes of a peer are never stored and never reach a client as the whole of a blob; who has sent them is named once the
// right ones are here.
func TestPeerThatSendsWrongBytes(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := ownedByOther(origin, "app", 1)
	wrong := bytes.Clone(layer.Bytes)
	wrong[sharedChunk+17] ^= 1
	p := openPair(t, origin, func(*pair) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { sendChunk(w, r, wrong) }
	})
	for range 2 { // the first is cut short, or healed
		b, err := p.Blob(t.Context(), repository(t, "app"), layer.Digest)
		if errors.Is(err, cache.ErrWrongContent) {
			p.settle()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		_, err = b.WriteRange(&got, 0, -1)
		if err := errors.Join(err, b.Close()); err == nil && !bytes.Equal(got.Bytes(), layer.Bytes) {
			t.Fatal("a client was given wrong bytes as right ones")
		}
		p.settle()
	}
	p.blob("app", layer, mirror.Hit)
	if p.log.lines("peer=other") == 0 || p.log.lines("sent wrong bytes") == 0 {
		t.Errorf("the peer is not named:\n%s", p.log)
	}
}

// A refusal of the registry that a peer has met means the same as one that is met here.
func TestRefusalsThatPeersHaveMet(t *testing.T) {
	f := func(status int, want error, retry time.Duration) {
		t.Helper()
		origin := upstreamtest.New(t)
		layer := ownedByOther(origin, "app", 0)
		p := openPair(t, origin, func(*pair) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "77")
				w.WriteHeader(status)
			}
		})
		b, err := p.Blob(t.Context(), repository(t, "app"), layer.Digest)
		if err == nil {
			_, err = b.WriteRange(io.Discard, 0, -1)
			_ = b.Close()
		}
		if !errors.Is(err, want) || upstream.RetryAfter(err) != retry {
			t.Errorf("status %d: got %v after %v, want %v after %v", status, err, upstream.RetryAfter(err), want, retry)
		}
		p.settle()
	}
	f(http.StatusNotFound, upstream.ErrNotFound, 0)
	f(http.StatusForbidden, upstream.ErrDenied, 0)
	f(http.StatusTooManyRequests, upstream.ErrTooManyRequests, 77*time.Second)
}

// tagAnswer answers what a tag names, signed, as of so many seconds ago.
func tagAnswer(p *pair, w http.ResponseWriter, r *http.Request, image upstreamtest.Image, age int) {
	proof, err := p.other.Verify(r.Header.Get("Authorization"), peer.Request{
		Method: r.Method, Target: r.RequestURI, Hop: r.Header.Get(peer.HeaderHop), Dead: r.Header.Get(peer.HeaderDead),
		OnlyIfCached: r.Header.Get("Cache-Control") == peer.OnlyIfCached,
	})
	if err != nil {
		p.t.Errorf("a request that cannot be verified: %v", err)
	}
	said := peer.Answer{
		Status: http.StatusOK, Digest: image.Digest.String(), MediaType: image.Descriptor().MediaType, Size: image.Descriptor().Size, Age: strconv.Itoa(age),
	}
	h := w.Header()
	h.Set("Docker-Content-Digest", said.Digest)
	h.Set("Content-Type", said.MediaType)
	h.Set(peer.HeaderSize, strconv.FormatInt(said.Size, 10))
	h.Set("Age", said.Age)
	h.Set(peer.HeaderSignature, p.other.SignAnswer(proof, said))
}

// The age of a tag is passed on, so that it is never believed for longer than once.
func TestTagsKeepTheirAge(t *testing.T) {
	f := func(what string, age int) {
		t.Helper()
		origin := upstreamtest.New(t)
		name := tagOfOther("app")
		image := origin.AddImage("app", name, 100)
		p := openPair(t, origin, func(p *pair) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, peer.PathTag) {
					tagAnswer(p, w, r, image, age)
					return
				}
				w.WriteHeader(peer.StatusUnable)
			}
		}, fresh(time.Minute))
		began := time.Now()
		m, err := p.Manifest(t.Context(), repository(t, "app"), tag(name))
		if err != nil || m.Descriptor.Digest != image.Digest {
			t.Fatalf("%s: %v", what, err)
		}
		stored, ok := p.names.Tag(repository(t, "app"), name)
		if !ok || stored.CheckedAt.After(time.Now().Add(-time.Duration(age)*time.Second)) || stored.CheckedAt.Before(began.Add(-time.Duration(age+1)*time.Second)) {
			t.Errorf("%s: checked at %v, want %d seconds ago", what, stored.CheckedAt, age)
		}
		for _, r := range origin.Requests() {
			if strings.HasSuffix(r.Path, "/manifests/"+name) {
				t.Errorf("%s: the registry was asked for the tag", what)
			}
		}
	}
	f("fresh", 0)
	f("old", 50)
	f("older than it may be, from an owner that cannot check it", 500)
}
