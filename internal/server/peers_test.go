package server_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/oci"
	"mirror/internal/peer"
	"mirror/internal/server"
	"mirror/internal/upstream/upstreamtest"
)

const (
	peerChunk  = 64 << 10
	peerSecret = "bm90IGEgc2VjcmV0LCBidXQgbG9uZyBlbm91Z2ggISE="
)

// peered is a server that also answers peers. The test speaks as one of them.
type peered struct {
	*harness
	peers  *server.Peers
	port   string
	secret peer.Secret
}

func newPeered(t *testing.T, o options, upload int64) *peered {
	t.Helper()
	cfg := peer.Defaults()
	cfg.Name, cfg.Listen, cfg.ChunkSize = "node", "127.0.0.1:0", peerChunk
	cfg.SecretFile = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(cfg.SecretFile, []byte(peerSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	quiet, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	group, err := peer.New(cfg, peer.DefaultSettings(), quiet, registry)
	if err != nil {
		t.Fatal(err)
	}
	if o.peers, err = peer.NewExchange(group, peerChunk, quiet, registry); err != nil {
		t.Fatal(err)
	}
	if err := group.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.peers.Close()
		if err := group.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p := &peered{harness: newHarnessWith(t, o)}
	if p.secret, err = peer.LoadSecret(cfg.SecretFile, cfg.Cluster); err != nil {
		t.Fatal(err)
	}
	p.open(upload)
	return p
}

// open opens the port for peers.
func (p *peered) open(upload int64) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.peers, p.port = p.server.Peers(upload), ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- p.peers.Serve(ln) }()
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.peers.Shutdown(ctx); err != nil {
			p.t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			p.t.Errorf("serve: %v", err)
		}
	})
}

// text is a request to the port for peers as it is, under an Authorization header.
func (p *peered) text(r peer.Request, authorization string, headers ...string) string {
	set := func(name, value string) {
		if value != "" {
			headers = append(headers, name+": "+value)
		}
	}
	set("Authorization", authorization)
	set("Range", r.Range)
	set(peer.HeaderHop, r.Hop)
	set(peer.HeaderDead, r.Dead)
	set(peer.HeaderSlow, r.Slow)
	if r.OnlyIfCached {
		set("Cache-Control", peer.OnlyIfCached)
	}
	return request(r.Method, r.Target, headers...)
}

// send sends a request to the port for peers.
func (p *peered) send(r peer.Request, authorization string) answer {
	p.t.Helper()
	c := p.dialTo(p.port)
	defer c.Close()
	c.send(p.text(r, authorization, "Connection: close"))
	return c.read(r.Method)
}

// as sends a request of a member, signed.
func (p *peered) as(name string, r peer.Request) answer {
	p.t.Helper()
	authorization, _ := peer.NewSigner(name, p.secret).Sign("node", r)
	return p.send(r, authorization)
}

// chunkRequest asks for the bytes [start, end).
func chunkRequest(repo string, d fmt.Stringer, start, end int, role string) peer.Request {
	q := url.Values{"ns": {"docker.io"}, "repo": {repo}, "key": {fmt.Sprint(start / peerChunk)}, "as": {role}}
	return peer.Request{
		Method: "GET", Target: peer.PathBlob + d.String() + "?" + q.Encode(), Range: fmt.Sprintf("bytes=%d-%d", start, end-1), Hop: "1",
		OnlyIfCached: role == "holder",
	}
}

// chunk asks as a member would, until there is another answer than that it is coming.
func (p *peered) chunk(name string, r peer.Request) answer {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		a := p.as(name, r)
		if a.StatusCode != peer.StatusNotYet || time.Now().After(deadline) {
			return a
		}
	}
}

// documentRequest asks for a manifest or a tag.
func documentRequest(path, repo, what string, held bool) peer.Request {
	q := url.Values{"ns": {"docker.io"}, "repo": {repo}}
	return peer.Request{Method: "GET", Target: path + what + "?" + q.Encode(), Hop: "1", OnlyIfCached: held}
}

func TestPeersAreSent(t *testing.T) {
	for name, upload := range map[string]int64{"without a limit": 0, "within a limit": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			p := newPeered(t, options{}, upload)
			content := pattern(3*peerChunk + 100)
			d := p.hub.AddBlob("library/app", content)
			f := func(role string, start, end int) {
				t.Helper()
				a := p.chunk("a", chunkRequest("library/app", d, start, end, role)).want(t, peer.StatusContent)
				end = min(end, len(content))
				a.wantBody(t, content[start:end])
				a.wantHeader(t, "Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, len(content)))
				a.wantHeader(t, peer.HeaderSize, fmt.Sprint(len(content)))
			}
			f("owner", peerChunk, 2*peerChunk)
			f("parent", 3*peerChunk, 4*peerChunk)
			f("owner", 100, peerChunk)
			f("holder", 2*peerChunk-10, 2*peerChunk)
			p.get(blobPath("library/app", d)).want(t, http.StatusOK).wantBody(t, content) // a client gets the rest
			if sent := p.hub.Sent(d); sent != int64(len(content)) {
				t.Errorf("the registry has sent %d bytes of %d", sent, len(content))
			}
		})
	}
}

func TestOnlyWhatIsHeld(t *testing.T) {
	p := newPeered(t, options{}, 0)
	d := p.hub.AddBlob("library/app", pattern(peerChunk))
	p.as("a", chunkRequest("library/app", d, 0, peerChunk, "holder")).want(t, peer.StatusNotHeld)
	p.as("a", documentRequest(peer.PathManifest, "library/app", d.String(), true)).want(t, peer.StatusNotHeld)
	p.as("a", documentRequest(peer.PathTag, "library/app", "1", true)).want(t, peer.StatusNotHeld)
	if n := p.upstreamRequests(); n != 0 {
		t.Errorf("%d requests to registries, want none", n)
	}
}

// Who is no member gets nothing, and the registry hears nothing of it.
func TestPeersMustSign(t *testing.T) {
	p := newPeered(t, options{}, 0)
	d := p.hub.AddBlob("library/app", pattern(peerChunk))
	right := chunkRequest("library/app", d, 0, peerChunk, "owner")
	other, err := peer.ParseSecret([]byte(strings.Repeat("another secret ", 4)+"\n"), "mirror")
	if err != nil {
		t.Fatal(err)
	}
	signer := peer.NewSigner("a", p.secret)
	sign := func(s *peer.Signer, to string) string { header, _ := s.Sign(to, right); return header }
	f := func(what, authorization string, change func(r *peer.Request)) {
		t.Helper()
		r := right
		if change != nil {
			change(&r)
		}
		if a := p.send(r, authorization); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: got status %d, want 401", what, a.StatusCode)
		}
	}
	f("nothing", "", nil)
	f("another scheme", "Basic YTpi", nil)
	f("another secret", sign(peer.NewSigner("a", other), "node"), nil)
	f("meant for another member", sign(signer, "b"), nil)
	f("another name", strings.Replace(sign(signer, "node"), "Peer a:", "Peer b:", 1), nil)
	f("another target", sign(signer, "node"), func(r *peer.Request) { r.Target += "&not=b" })
	f("another range", sign(signer, "node"), func(r *peer.Request) { r.Range = "bytes=0-1" })
	f("another hop", sign(signer, "node"), func(r *peer.Request) { r.Hop = "2" })
	f("other dead", sign(signer, "node"), func(r *peer.Request) { r.Dead = "b" })
	f("other slow", sign(signer, "node"), func(r *peer.Request) { r.Slow = "b" })
	f("only if cached", sign(signer, "node"), func(r *peer.Request) { r.OnlyIfCached = true })
	if n := p.upstreamRequests(); n != 0 {
		t.Errorf("%d requests to registries, want none", n)
	}
	seen := sign(signer, "node")
	if a := p.send(right, seen); a.StatusCode == http.StatusUnauthorized {
		t.Errorf("a right request was refused: %s", a.body)
	}
	f("a second time", seen, nil)
}

func TestPortsAreApart(t *testing.T) {
	p := newPeered(t, options{}, 0)
	d := p.hub.AddBlob("library/app", pattern(peerChunk))
	r := chunkRequest("library/app", d, 0, peerChunk, "owner")
	authorization, _ := peer.NewSigner("a", p.secret).Sign("node", r)
	for _, target := range []string{peer.PathPing, r.Target, documentRequest(peer.PathTag, "library/app", "1", false).Target} {
		p.get(target, "Authorization: "+authorization, "Range: "+r.Range, peer.HeaderHop+": 1").want(t, http.StatusNotFound)
	}
	for _, target := range []string{"/", "/v2/", "/metrics", blobPath("library/app", d), "/_peer/", "/_peer/v2/ping", "/_peer/v1/../../v2/"} {
		if a := p.as("a", peer.Request{Method: "GET", Target: target, Hop: "1"}); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got status %d from the port for peers, want 404", target, a.StatusCode)
		}
	}
	if n := p.upstreamRequests(); n != 0 {
		t.Errorf("%d requests to registries, want none", n)
	}
}

func TestMalformedRequestsOfPeers(t *testing.T) {
	p := newPeered(t, options{}, 0)
	right := chunkRequest("library/app", oci.DigestOf(oci.SHA256, nil), 0, peerChunk, "owner")
	f := func(want int, change func(r *peer.Request)) {
		t.Helper()
		r := right
		change(&r)
		if a := p.as("a", r); a.StatusCode != want {
			t.Errorf("%+v: got status %d, want %d", r, a.StatusCode, want)
		}
	}
	f(http.StatusBadRequest, func(r *peer.Request) { r.Range = "" })
	f(http.StatusBadRequest, func(r *peer.Request) { r.Hop = "99" })
	f(http.StatusBadRequest, func(r *peer.Request) { r.Target = peer.PathBlob })
	f(http.StatusBadRequest, func(r *peer.Request) { r.Target = peer.PathManifest + "latest?ns=docker.io&repo=a" })
	f(http.StatusBadRequest, func(r *peer.Request) { r.Target = peer.PathTag + "..?ns=docker.io&repo=a" })
	f(http.StatusBadRequest, func(r *peer.Request) { r.Target = peer.PathTag + "1?ns=docker.io&repo=../a" })
	f(http.StatusNotFound, func(r *peer.Request) { r.Target = peer.Prefix + "rumour" })
	f(http.StatusBadRequest, func(r *peer.Request) { r.Method = "POST" })
	if n := p.upstreamRequests(); n != 0 {
		t.Errorf("%d requests to registries, want none", n)
	}
}

// Two are kept waiting for a chunk that is on its way; the third is sent to the first.
func TestThirdAskerIsSentOn(t *testing.T) {
	p := newPeered(t, options{}, 0)
	content := pattern(2 * peerChunk)
	d := p.hub.AddBlob("library/app", content)
	release, end := context.WithCancel(t.Context()) // a test that fails must not hold the registry
	p.hub.Hook(func(*http.Request) *upstreamtest.Fault { <-release.Done(); return nil })
	r := chunkRequest("library/app", d, 0, peerChunk, "owner")
	for _, name := range []string{"a", "b", "a"} {
		p.as(name, r).want(t, peer.StatusNotYet)
	}
	p.as("c", r).want(t, peer.StatusAskOther).wantHeader(t, peer.HeaderNode, "a")
	r.Dead = "a"
	p.as("d", r).want(t, peer.StatusNotYet) // in the place of a
	end()
	p.chunk("b", chunkRequest("library/app", d, 0, peerChunk, "parent")).want(t, peer.StatusContent).wantBody(t, content[:peerChunk])
	p.get(blobPath("library/app", d)).want(t, http.StatusOK).wantBody(t, content)
}

func TestRefusalsForPeers(t *testing.T) {
	missing := oci.DigestOf(oci.SHA256, []byte("missing"))
	f := func(what string, want int, repo string, script func(p *peered)) answer {
		t.Helper()
		p := newPeered(t, options{}, 0)
		if script != nil {
			script(p)
		}
		a := p.chunk("a", chunkRequest(repo, missing, 0, peerChunk, "owner"))
		if a.StatusCode != want {
			t.Errorf("%s: got status %d, want %d", what, a.StatusCode, want)
		}
		return a
	}
	fails := func(fault upstreamtest.Fault) func(p *peered) {
		return func(p *peered) { p.hub.Hook(func(*http.Request) *upstreamtest.Fault { return &fault }) }
	}
	f("not there", http.StatusNotFound, "library/app", nil)
	f("forbidden", http.StatusForbidden, "library/app", fails(upstreamtest.Fault{Status: http.StatusForbidden}))
	limited := f("limited", http.StatusTooManyRequests, "library/app", fails(upstreamtest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"77"}}}))
	limited.wantHeader(t, "Retry-After", "77")
	f("broken", peer.StatusFailed, "library/app", fails(upstreamtest.Fault{Status: http.StatusInternalServerError}))
}

// What this node does not serve says nothing about what the registry has: the peer asks the next rank.
func TestOwnRefusalsAreNotTheRegistrys(t *testing.T) {
	p := newPeered(t, options{}, 0)
	d := p.hub.AddBlob("library/app", pattern(peerChunk))
	r := chunkRequest("library/app", d, 0, peerChunk, "owner")
	r.Target = strings.Replace(r.Target, "docker.io", "unknown.test", 1)
	p.as("a", r).want(t, peer.StatusUnable)
	tag := documentRequest(peer.PathTag, "library/app", "1", false)
	tag.Target = strings.Replace(tag.Target, "docker.io", "unknown.test", 1)
	p.as("a", tag).want(t, peer.StatusUnable)
}

// Content that came through one repository is given through another one only if the registry says that it is there too.
func TestPeersSeeWhatTheirRepositoryHas(t *testing.T) {
	p := newPeered(t, options{}, 0)
	content := pattern(peerChunk)
	d := p.hub.AddBlob("library/app", content)
	p.hub.AddBlob("library/other", []byte("something else"))
	p.get(blobPath("library/app", d)).want(t, http.StatusOK)
	asking := make(chan struct{})
	p.hub.Hook(func(*http.Request) *upstreamtest.Fault { <-asking; return nil })
	r := chunkRequest("library/other", d, 0, peerChunk, "owner")
	p.as("a", r).want(t, peer.StatusNotYet) // nobody waits longer for the registry than for bytes
	close(asking)
	p.chunk("a", r).want(t, http.StatusNotFound)
	p.chunk("a", chunkRequest("library/app", d, 0, peerChunk, "holder")).want(t, peer.StatusContent).wantBody(t, content)
}

func TestDrainingSendsPeersElsewhere(t *testing.T) {
	p := newPeered(t, options{}, 0)
	d := p.hub.AddBlob("library/app", pattern(peerChunk))
	p.peers.Drain()
	p.as("a", chunkRequest("library/app", d, 0, peerChunk, "owner")).want(t, peer.StatusUnable)
	p.as("a", documentRequest(peer.PathTag, "library/app", "1", false)).want(t, peer.StatusUnable)
	p.send(peer.Request{Method: "GET", Target: peer.PathPing}, "").want(t, http.StatusNoContent)
	if n := p.upstreamRequests(); n != 0 {
		t.Errorf("%d requests to registries, want none", n)
	}
}

func TestDocumentsForPeers(t *testing.T) {
	p := newPeered(t, options{}, 0)
	image := p.hub.AddImage("library/app", "1", 100)
	r := documentRequest(peer.PathTag, "library/app", "1", false)
	signer := peer.NewSigner("a", p.secret)
	authorization, proof := signer.Sign("node", r)
	a := p.send(r, authorization).want(t, http.StatusOK)
	a.wantHeader(t, "Docker-Content-Digest", image.Digest.String())
	said := peer.Answer{
		Status: a.StatusCode, Digest: a.Header.Get("Docker-Content-Digest"), MediaType: a.Header.Get("Content-Type"),
		Size: image.Descriptor().Size, Age: a.Header.Get("Age"),
	}
	if err := signer.VerifyAnswer(proof, said, a.Header.Get(peer.HeaderSignature)); err != nil {
		t.Error(err)
	}
	for _, held := range []bool{false, true} {
		got := p.as("a", documentRequest(peer.PathManifest, "library/app", image.Digest.String(), held)).want(t, http.StatusOK)
		if !image.Digest.Verifies(got.body) || !bytes.Contains([]byte(got.Header.Get("Content-Type")), []byte("manifest")) {
			t.Errorf("held %v: %d bytes of type %s", held, len(got.body), got.Header.Get("Content-Type"))
		}
	}
	p.as("a", documentRequest(peer.PathTag, "library/app", "2", false)).want(t, http.StatusNotFound)
}
