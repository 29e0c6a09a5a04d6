package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/oci"
)

// testChunk is the unit of exchange in these tests, in bytes.
const testChunk = 64 << 10

// fleet is a node, called self, with scripted members around it. Its network is in memory and its clock is that of the bubble.
type fleet struct {
	t        *testing.T
	exchange *Exchange
	content  []byte
	name     Content // whose chunk 0 is owned by the members in the order that newFleet was given
	members  map[string]*scripted

	signer  *Signer
	ranking *Ranking

	mu      sync.Mutex
	dead    Names
	origins []string // what the registry was asked for
	origin  Origin
}

// scripted is a member that does what a test says.
type scripted struct {
	fleet   *fleet
	name    string
	signer  *Signer
	backlog chan net.Conn
	over    chan struct{}
	running sync.WaitGroup // handlers

	mu      sync.Mutex
	answer  func(w http.ResponseWriter, a Ask)
	special http.HandlerFunc // for other requests than those for chunks
	refuses bool             // connections
	deaf    bool             // does not take connections
	hangs   bool             // says nothing, not even to pings
	asks    []Ask
}

// inFleet runs a test as self, in a bubble, among members that rank for chunk 0 in this order. self is one of them.
func inFleet(t *testing.T, test func(f *fleet), order ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, order)
		defer f.stop()
		test(f)
	})
}

func newFleet(t *testing.T, order []string) *fleet {
	secret, err := noSecret("test")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, members: map[string]*scripted{}, dead: Names{}, signer: NewSigner("self", secret), content: make([]byte, 3*testChunk)}
	for i := range f.content {
		f.content[i] = byte(i*7 + i>>8)
	}
	var list []Member
	for i, name := range order {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1)
		list = append(list, Member{Name: name, Transfer: at, ChunkSize: testChunk, Versions: spoken})
		if name != "self" {
			f.members[name] = newScripted(f, name, secret)
		}
	}
	f.ranking = NewRanking(list)
	f.name = Content{Registry: "registry.test", Repository: "app", Digest: f.digestFor(order)}
	f.origin = f.registry
	traffic, err := newTraffic(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	f.exchange = newExchange(f, testChunk, slog.New(slog.DiscardHandler), traffic)
	for _, client := range []*http.Client{f.exchange.calls.http, f.exchange.calls.pings} {
		client.Transport.(*http.Transport).DialContext = f.dial
	}
	return f
}

// digestFor finds a digest whose chunk 0 ranks the members in the order.
func (f *fleet) digestFor(order []string) oci.Digest {
	for i := 0; ; i++ {
		d := oci.DigestOf(oci.SHA256, []byte(strconv.Itoa(i)))
		var room [maxTop]*Member
		top := f.ranking.Top(ChunkKey(d, 0), room[:], nil)
		if slices.EqualFunc(top, order, func(m *Member, name string) bool { return m.Name == name }) {
			return d
		}
	}
}

func (f *fleet) stop() {
	f.exchange.Close()
	for _, m := range f.members {
		m.stop()
	}
	f.exchange.calls.close()
}

// What an Exchange needs of a Group.
func (f *fleet) View() View {
	f.mu.Lock()
	defer f.mu.Unlock()
	except := Names{}
	for name := range f.dead {
		except[name] = struct{}{}
	}
	return View{ranking: f.ranking, self: f.ranking.Member("self"), except: except}
}

func (f *fleet) Dead(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead[name] = struct{}{}
}

func (f *fleet) foundDead(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead.Has(name)
}

func (f *fleet) Sign(to string, r Request) (string, Proof)      { return f.signer.Sign(to, r) }
func (f *fleet) Verify(header string, r Request) (Proof, error) { return f.signer.Verify(header, r) }
func (f *fleet) SignAnswer(p Proof, a Answer) string            { return f.signer.SignAnswer(p, a) }
func (f *fleet) VerifyAnswer(p Proof, a Answer, signed string) error {
	return f.signer.VerifyAnswer(p, a, signed)
}

// dial is the network.
func (f *fleet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	at := netip.MustParseAddrPort(address)
	for _, m := range f.ranking.Members() {
		if m.Transfer == at && m.Name != "self" {
			return f.members[m.Name].connect(ctx)
		}
	}
	return nil, fmt.Errorf("nobody is at %s", address)
}

// registry is the upstream, as it should be.
func (f *fleet) registry(_ context.Context, start, end int64) (*Stream, error) {
	end = min(end, int64(len(f.content)))
	return &Stream{Body: io.NopCloser(bytes.NewReader(f.content[start:end])), Start: start, Size: int64(len(f.content))}, nil
}

// blob starts getting the content.
func (f *fleet) blob() *Blob {
	return f.exchange.Blob(f.name, func(ctx context.Context, start, end int64) (*Stream, error) {
		f.mu.Lock()
		f.origins = append(f.origins, fmt.Sprintf("%d-%d", start, end))
		origin := f.origin
		f.mu.Unlock()
		return origin(ctx, start, end)
	})
}

// chunk gets chunk 0 and checks that its bytes are right.
func (f *fleet) chunk() *Blob {
	f.t.Helper()
	b := f.blob()
	got, err := get(f.t.Context(), b, 0, testChunk)
	if err != nil {
		f.t.Fatal(err)
	}
	if !bytes.Equal(got, f.content[:testChunk]) {
		f.t.Fatalf("%d wrong bytes", len(got))
	}
	return b
}

// get reads a span of a blob.
func get(ctx context.Context, b *Blob, start, end int64) ([]byte, error) {
	x, err := b.Open(ctx, start, end)
	if err != nil {
		return nil, err
	}
	if x.Start != start {
		return nil, errors.Join(fmt.Errorf("starts at %d", x.Start), x.Close())
	}
	got, err := io.ReadAll(x)
	return got, errors.Join(err, x.Close())
}

// wantOrigin checks what the registry was asked for.
func (f *fleet) wantOrigin(want ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.origins, want) {
		f.t.Errorf("the registry was asked for %v, want %v", f.origins, want)
	}
}

func newScripted(f *fleet, name string, secret Secret) *scripted {
	m := &scripted{fleet: f, name: name, signer: NewSigner(name, secret), backlog: make(chan net.Conn), over: make(chan struct{})}
	m.answer = func(w http.ResponseWriter, _ Ask) { w.WriteHeader(StatusNotHeld) }
	server := &http.Server{Handler: http.HandlerFunc(m.serve), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	m.special = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(StatusNotHeld) }
	go func() { _ = server.Serve(m) }()
	return m
}

// Accept, Close and Addr make a member a listener.
func (m *scripted) Accept() (net.Conn, error) {
	select {
	case c := <-m.backlog:
		return c, nil
	case <-m.over:
		return nil, net.ErrClosed
	}
}

func (m *scripted) Close() error   { return nil }
func (m *scripted) Addr() net.Addr { return &net.TCPAddr{} }

// stop ends the member and waits for what it does.
func (m *scripted) stop() {
	m.mu.Lock()
	close(m.over)
	m.mu.Unlock()
	m.running.Wait()
}

// connect is a connection to the member.
func (m *scripted) connect(ctx context.Context) (net.Conn, error) {
	if m.is(&m.refuses) {
		return nil, syscall.ECONNREFUSED
	}
	if m.is(&m.deaf) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	here, there := net.Pipe()
	if m.is(&m.hangs) {
		go func() { <-m.over; _ = there.Close() }()
		return here, nil
	}
	select {
	case m.backlog <- there:
		go func() { <-m.over; _ = there.Close() }()
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *scripted) is(what *bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *what
}

func (m *scripted) set(what *bool, to bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*what = to
}

// does says how the member answers from now on.
func (m *scripted) does(answer func(w http.ResponseWriter, a Ask)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = answer
}

// asked returns what the member was asked for, probes left out.
func (m *scripted) asked() (asks []Ask) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.asks {
		if a.Role != AsHolder {
			asks = append(asks, a)
		}
	}
	return asks
}

// enter counts a handler, unless the member has ended.
func (m *scripted) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.over:
		return false
	default:
		m.running.Add(1)
		return true
	}
}

func (m *scripted) serve(w http.ResponseWriter, r *http.Request) {
	if !m.enter() {
		return
	}
	defer m.running.Done()
	if m.is(&m.hangs) {
		<-m.over
		return
	}
	if r.URL.Path == PathPing {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !strings.HasPrefix(r.URL.Path, PathBlob) {
		m.mu.Lock()
		answer := m.special
		m.mu.Unlock()
		answer(w, r)
		return
	}
	m.proofOf(r)
	a, err := ParseAsk(requestOf(r))
	if err != nil {
		m.fleet.t.Errorf("%s was sent a request that it does not understand: %v", m.name, err)
	}
	m.mu.Lock()
	m.asks = append(m.asks, a)
	answer := m.answer
	m.mu.Unlock()
	answer(w, a)
}

// requestOf is a request as its signature covers it.
func requestOf(r *http.Request) Request {
	return Request{
		Method: r.Method, Target: r.RequestURI, Range: r.Header.Get("Range"), Hop: r.Header.Get(HeaderHop), Dead: r.Header.Get(HeaderDead),
		Slow: r.Header.Get(HeaderSlow), OnlyIfCached: r.Header.Get("Cache-Control") == OnlyIfCached,
	}
}

// proofOf checks the signature of a request.
func (m *scripted) proofOf(r *http.Request) Proof {
	p, err := m.signer.Verify(r.Header.Get("Authorization"), requestOf(r))
	if err != nil {
		m.fleet.t.Errorf("%s was sent a request that it cannot verify: %v", m.name, err)
	}
	return p
}

// sends answers with the content, as it should be.
func (f *fleet) sends(w http.ResponseWriter, a Ask) {
	f.head(w, a)
	_, _ = w.Write(f.content[a.Start:min(a.End, int64(len(f.content)))])
}

// head is the beginning of an answer with content.
func (f *fleet) head(w http.ResponseWriter, a Ask) {
	size := int64(len(f.content))
	end := min(a.End, size)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a.Start, end-1, size))
	w.Header().Set("Content-Length", strconv.FormatInt(end-a.Start, 10))
	w.WriteHeader(StatusContent)
}

// sendsFirst answers with the first n bytes, and then does something else.
func (f *fleet) sendsFirst(n int64, then func()) func(http.ResponseWriter, Ask) {
	return func(w http.ResponseWriter, a Ask) {
		f.head(w, a)
		_, _ = w.Write(f.content[a.Start : a.Start+n])
		_ = http.NewResponseController(w).Flush()
		then()
	}
}

// breaks ends a connection in the middle of an answer.
func breaks() { panic(http.ErrAbortHandler) }

// says answers without content. Headers are pairs of names and values.
func says(status int, headers ...string) func(http.ResponseWriter, Ask) {
	return func(w http.ResponseWriter, _ Ask) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		if status == StatusNotYet {
			time.Sleep(HoldTime)
		}
		w.WriteHeader(status)
	}
}

// inTurn answers each request in another way, the last way from then on.
func inTurn(ways ...func(http.ResponseWriter, Ask)) func(http.ResponseWriter, Ask) {
	var mu sync.Mutex
	return func(w http.ResponseWriter, a Ask) {
		mu.Lock()
		way := ways[0]
		if len(ways) > 1 {
			ways = ways[1:]
		}
		mu.Unlock()
		way(w, a)
	}
}

// namesOf lists members in an order that does not matter.
func namesOf(lists ...[]string) string {
	return fmt.Sprint(slices.Sorted(slices.Values(slices.Concat(lists...))))
}
