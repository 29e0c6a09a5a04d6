package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mirror/internal/upstream/upstreamtest"
)

// The table of upstream faults of the protocol reference (8.2), row by row, as a client sees it. Each row is asked four
// ways, each of a mirror and a registry of its own: for a tag that is not here, one that is here and no longer fresh, a
// manifest by digest and a blob that are not here. What is expected of each is one line:
//
//	<status> <X-Cache or code of the error> [after <Retry-After>] [short] | <what the registry was asked> | <breaker>
//
// Rows that have no fault of an upstream in them are tested elsewhere: a client that goes away in TestVanishingClients and
// the tests of cache readers; content whose bytes turn out to be wrong, or short, when most of them are out already in
// TestFailedContentEndsShort; several accounts in the tests of upstream.
type faultRow struct {
	name    string
	options func(*options)
	layer   int // bytes of the blob; 100 when zero
	// fail makes the fault. The content is at the registry by then, and the tag that is to be stale here.
	fail                     func(*harness, upstreamtest.Image)
	tag, stale, digest, blob string // what is expected; empty when the row says nothing of it
}

// faultCell is one row asked in one way.
type faultCell struct {
	*harness
	t      *testing.T
	name   string
	target string
	kinds  []upstreamtest.Kind // what counts as asked
	body   []byte              // the right one
	want   string
	conn   *client
}

// cells returns the ways in which a row is asked.
func (r faultRow) cells() map[string]string {
	all := map[string]string{"tag": r.tag, "stale tag": r.stale, "digest": r.digest, "blob": r.blob}
	for name, want := range all {
		if want == "" {
			delete(all, name)
		}
	}
	return all
}

// ask prepares a mirror and its registry, and sends the request.
func (r faultRow) ask(t *testing.T, way, want string) *faultCell {
	t.Helper()
	o := options{fresh: time.Nanosecond}
	if r.options != nil {
		r.options(&o)
	}
	c := &faultCell{harness: newHarnessWith(t, o), t: t, name: r.name + ", " + way, want: want}
	image := c.hub.AddImage("org/app", "1", max(r.layer, 100*(1-min(r.layer, 1))))
	c.kinds, c.body = []upstreamtest.Kind{upstreamtest.Manifest}, image.Manifest
	switch way {
	case "stale tag":
		c.get(manifestPath("org/app", "1")).want(t, 200)
		fallthrough
	case "tag":
		c.target = manifestPath("org/app", "1")
	case "digest":
		c.target = manifestPath("org/app", image.Digest.String())
	case "blob":
		layer := image.Layers[0]
		c.target, c.body = blobPath("org/app", layer.Digest), layer.Bytes
		c.kinds = []upstreamtest.Kind{upstreamtest.Blob, upstreamtest.CDN}
	}
	r.fail(c.harness, image)
	c.hub.Reset()
	c.conn = c.dial()
	c.conn.send(request("GET", c.target))
	return c
}

// check reads the answer and compares. What the registry is asked may go on for a moment after a stale answer.
func (c *faultCell) check() {
	c.t.Helper()
	seen := c.seen(c.conn.read("GET"))
	got := seen + c.state()
	for deadline := time.Now().Add(5 * time.Second); got != c.want && time.Now().Before(deadline); got = seen + c.state() {
		time.Sleep(time.Millisecond)
	}
	if got != c.want {
		c.t.Errorf("%s\n got %s\nwant %s", c.name, got, c.want)
	}
}

// seen describes an answer, and checks what holds for all answers.
func (c *faultCell) seen(a answer) string {
	c.t.Helper()
	text := fmt.Sprint(a.StatusCode, " ", a.Header.Get("X-Cache"))
	if a.StatusCode != 200 {
		text = fmt.Sprint(a.StatusCode, " ", errorCode(c.t, a))
	}
	if after := a.Header.Get("Retry-After"); after != "" {
		text += " after " + after
	}
	switch {
	case a.StatusCode == 200 && a.err != nil && len(a.body) < len(c.body):
		text += " short"
	case a.StatusCode == 200:
		a.wantBody(c.t, c.body)
	case strings.Contains(string(a.body), c.hub.Host):
		c.t.Errorf("%s: the answer tells of the inside: %s", c.name, a.body)
	}
	if warned := strings.HasPrefix(a.Header.Get("Warning"), `299 - "`); warned != (a.Header.Get("X-Cache") == "STALE") {
		c.t.Errorf("%s: Warning is %q", c.name, a.Header.Get("Warning"))
	}
	a.wantHeader(c.t, "WWW-Authenticate", "")
	if logged := len(c.logs.lines(`"level":"ERROR"`, `"request":`)); (a.StatusCode >= 500) != (logged == 1) {
		c.t.Errorf("%s: status %d is logged as an error %d times", c.name, a.StatusCode, logged)
	}
	return text
}

// errorCode returns the code of an error answer, whose form it checks.
func errorCode(t *testing.T, a answer) string {
	t.Helper()
	_, rest, _ := strings.Cut(string(a.body), `"code":"`)
	code, _, _ := strings.Cut(rest, `"`)
	checkErrorBody(t, a, code)
	return code
}

// state is what the registry was asked, and what the mirror thinks of it.
func (c *faultCell) state() string {
	var asked []string
	for _, request := range c.hub.Requests() {
		for _, kind := range c.kinds {
			if request.Kind == kind {
				asked = append(asked, request.Method)
			}
		}
	}
	return " | " + strings.Join(asked, " ") + " | " + c.up.Health().Endpoints[0].State
}

// failing returns a fail for a row that lets everything at the registry go wrong in the same way, n times for each kind.
func failing(n int, fault upstreamtest.Fault) func(*harness, upstreamtest.Image) {
	return func(h *harness, _ upstreamtest.Image) {
		h.hub.Fail(upstreamtest.Manifest, n, fault)
		h.hub.Fail(upstreamtest.Blob, n, fault)
	}
}

// inTurn returns a fail for a row of blobs whose requests go wrong one after the other.
func inTurn(faults ...upstreamtest.Fault) func(*harness, upstreamtest.Image) {
	return func(h *harness, _ upstreamtest.Image) {
		for _, fault := range faults {
			h.hub.Fail(upstreamtest.Blob, 1, fault)
		}
	}
}

func TestFaultTable(t *testing.T) {
	t.Parallel()
	for _, rows := range [][]faultRow{unreachable(), refusing(t), troubled(), redirecting(), sendingWrong(), ourOwn()} {
		for _, row := range rows {
			for way, want := range row.cells() {
				t.Run(row.name+"/"+way, func(t *testing.T) {
					t.Parallel()
					row.ask(t, way, want).check()
				})
			}
		}
	}
}

// TestFaultTableOfTime has the rows that take as long as a client has to wait. All of them are asked at once.
func TestFaultTableOfTime(t *testing.T) {
	t.Parallel()
	var asked []*faultCell
	for _, row := range tooSlow() {
		for way, want := range row.cells() {
			asked = append(asked, row.ask(t, way, want))
		}
	}
	for _, cell := range asked {
		cell.check()
	}
}

// TestBreakerAnswersFromMemory: what has failed a few times is left alone, and clients hear of it at once.
func TestBreakerAnswersFromMemory(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1", 100)
	h.hub.Stop()
	h.get(manifestPath("org/app", "1")).want(t, 502)
	h.get(manifestPath("org/app", "2")).want(t, 502)
	if state := h.up.Health().Endpoints[0].State; state != "open" {
		t.Fatalf("after two requests and their retries, the breaker is %s", state)
	}
	h.hub.Start()
	for _, target := range []string{manifestPath("org/app", "1"), blobPath("org/app", image.Config.Digest)} {
		checkErrorBody(t, h.get(target).want(t, 502), "UNAVAILABLE")
	}
	if n := len(h.hub.Requests()); n != 0 {
		t.Errorf("%d requests reached a registry that is to be left alone", n)
	}
}
