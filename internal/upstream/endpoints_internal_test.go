package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

// pair is a client of two registries that hold the same, and one image in both.
type pair struct {
	*Registry
	t             *testing.T
	first, second *upstreamtest.Registry
	image         upstreamtest.Image
}

func newPair(t *testing.T, layers ...int) *pair {
	t.Helper()
	p := &pair{t: t, first: upstreamtest.New(t), second: upstreamtest.New(t)}
	p.image = p.first.AddImage("app", "1", layers...)
	p.second.AddManifest("app", "1", p.image.MediaType, p.image.Manifest)
	for _, layer := range p.image.Layers {
		p.second.AddBlob("app", layer.Bytes)
	}
	p.Registry = build(t, Config{Endpoints: []string{p.first.URL, p.second.URL}})
	return p
}

// ask asks what the tag names, and checks how many requests each registry got of it.
func (p *pair) ask(first, second int) {
	p.t.Helper()
	p.first.Reset()
	p.second.Reset()
	if _, err := p.Manifest(p.t.Context(), "app", oci.Reference{Tag: "1"}); err != nil {
		p.t.Error(err)
	}
	one, two := p.first.Count(upstreamtest.Manifest, "GET"), p.second.Count(upstreamtest.Manifest, "GET")
	if one != first || two != second {
		p.t.Errorf("asked the first %d times and the second %d times, want %d and %d", one, two, first, second)
	}
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// over ends the pause of a breaker.
func (b *breaker) over() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = b.since.Add(-b.pause)
}

// TestEndpointThatIsNoRegistry: a login page or a redirect that leads nowhere, at one endpoint, is no reason not to ask the
// next. What a registry says of the content is believed.
func TestEndpointThatIsNoRegistry(t *testing.T) {
	f := func(name string, fault upstreamtest.Fault, second int) {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 100)
			p.first.Fail(upstreamtest.Manifest, -1, fault)
			p.first.Fail(upstreamtest.Blob, -1, fault)
			_, errManifest := p.Manifest(t.Context(), "app", oci.Reference{Tag: "1"})
			_, errHead := p.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"})
			body, errBlob := p.Blob(t.Context(), "app", p.image.Layers[0].Digest, 0, -1)
			if errBlob == nil {
				_ = body.Close()
			}
			for _, err := range []error{errManifest, errHead, errBlob} {
				if (err == nil) != (second > 0) {
					t.Errorf("got %v", err)
				}
			}
			if n := len(p.second.Requests()); n != second {
				t.Errorf("the second was asked %d times, want %d", n, second)
			}
			if n := len(p.first.Requests()); n != 3 {
				t.Errorf("the first was asked %d times, want once for each", n)
			}
		})
	}
	f("web page", upstreamtest.Fault{HTML: true}, 3)
	f("redirect to no web address", upstreamtest.Fault{Redirect: "ftp://registry.invalid/x"}, 3)
	f("not found", upstreamtest.Fault{Status: http.StatusNotFound}, 0)
}

// TestManifestOfAnotherDigest: what one endpoint has wrong is asked of the other.
func TestManifestOfAnotherDigest(t *testing.T) {
	p := newPair(t)
	p.first.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Flip: []int64{40}})
	m, err := p.Manifest(t.Context(), "app", oci.Reference{Digest: p.image.Digest})
	if err != nil || m.Digest != p.image.Digest {
		t.Errorf("by digest: got %v", err)
	}
	m, err = p.Manifest(t.Context(), "app", oci.Reference{Tag: "1"})
	if err != nil || m.Digest != p.image.Digest {
		t.Errorf("by tag: got %v", err)
	}
	// For the tag, the second is also asked for the bytes that the first had.
	if one, two := len(p.first.Requests()), len(p.second.Requests()); one != 2 || two != 3 {
		t.Errorf("asked the first %d times and the second %d times, want 2 and 3", one, two)
	}
}

// TestStorageThatBecomesAWebPage: a place that an earlier request was sent to, and that shows a page by now, is left.
func TestStorageThatBecomesAWebPage(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", make([]byte, 100))
	origin.UseCDN()
	r := build(t, Config{Endpoints: []string{origin.URL}})
	download := r.Download("app", d)
	for n, span := range [][2]int64{{0, 50}, {50, 100}} {
		if n == 1 {
			origin.Fail(upstreamtest.CDN, 1, upstreamtest.Fault{HTML: true})
		}
		body, err := download.Open(t.Context(), span[0], span[1])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(body); err != nil || len(got) != 50 {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		_ = body.Close()
	}
	if n := origin.Count(upstreamtest.Blob, "GET"); n != 2 {
		t.Errorf("the registry was asked %d times, want again after the page", n)
	}
}

// TestEndpointThatFails: who asks goes to the next endpoint at once, and a request of nobody's finds out that the first is
// well again.
func TestEndpointThatFails(t *testing.T) {
	p := newPair(t)
	p.ask(1, 0)
	p.first.Stop()
	for range breakerThreshold {
		p.ask(0, 1)
	}
	if !p.endpoints[0].breaker.down() {
		t.Fatal("the breaker of the first is not open")
	}
	p.first.Start()
	p.ask(0, 1)
	if n := len(p.first.Requests()); n != 0 {
		t.Errorf("%d requests while the breaker was open", n)
	}
	p.endpoints[0].breaker.over()
	p.ask(0, 1)
	eventually(t, "the first is well again", func() bool { return !p.endpoints[0].breaker.down() })
	got := p.first.Requests()
	if len(got) != 1 || got[0].Method != http.MethodHead || got[0].Path != "/v2/app/manifests/1" {
		t.Errorf("the first was tried by %v, want one HEAD of what was asked", got)
	}
	p.ask(1, 0)
}

// TestTrialCostsNoClient: while another endpoint answers, nobody waits for the trial of one that gives no answer.
func TestTrialCostsNoClient(t *testing.T) {
	p := newPair(t)
	p.first.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	p.times.header = 5 * short
	p.endpoints[0].breaker.fail(ErrTimeout)
	p.endpoints[0].breaker.over()
	begin := time.Now()
	for range 5 {
		p.ask(0, 1)
	}
	if took := time.Since(begin); took > 4*short {
		t.Errorf("took %v", took)
	}
	eventually(t, "the trial arrives", func() bool { return p.first.Count(upstreamtest.Manifest, "HEAD") <= 1 })
}

// fail lets a request through that fails.
func (b *breaker) fail(cause error) {
	pass, _, _ := b.admit()
	pass.failed("/v2/", cause)
}

// TestTrialByAClient: when no endpoint is well, a client's request finds out, and does not wait long.
func TestTrialByAClient(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.first.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	p.times.probe = short
	for _, e := range p.endpoints {
		e.breaker.fail(ErrTimeout)
		e.breaker.over()
	}
	p.ask(1, 1)
	if state := p.Health().Endpoints[0].State; state != "open" {
		t.Errorf("the dead endpoint is %s after its trial", state)
	}
}

// TestEndpointThatIsSlow: it is asked last until it is nearly as fast as the other.
func TestEndpointThatIsSlow(t *testing.T) {
	p := newPair(t)
	slow, quick := p.endpoints[0], p.endpoints[1]
	p.ask(1, 0)
	for range paceSamples + 9 {
		slow.pace.add(time.Second)
	}
	p.ask(1, 0) // nothing is known of the other, which is asked now by a request of nobody's
	eventually(t, "the other is measured", func() bool { _, ok := quick.pace.known(); return ok && !quick.probing.busy.Load() })
	if n := p.second.Count(upstreamtest.Manifest, "HEAD"); n != 1 {
		t.Errorf("the other was measured by %d requests, want 1", n)
	}
	p.ask(0, 1)
	if h := p.Health().Endpoints; !h[0].Slow || h[1].Slow || h[0].Headers < slowLeast {
		t.Errorf("health: %+v", h)
	}
	if n := len(p.first.Requests()); n > 1 {
		t.Errorf("%d probes in one interval", n)
	}
	probed := func() { eventually(t, "the probe is over", func() bool { return !slow.probing.busy.Load() }) }
	probed()
	for try := 0; slow.pace.compare(p.fastestBut(slow)); try++ {
		if try == 50 {
			t.Fatal("never fast again")
		}
		slow.probing.last.Store(0) // the interval is over
		p.ask(0, 1)
		probed()
	}
	p.ask(1, 0)
}

// TestSlowEndpointAloneIsFine: being slow is no reason to be left alone.
func TestSlowEndpointAloneIsFine(t *testing.T) {
	p := newPair(t)
	p.second.Stop()
	for range paceSamples {
		p.endpoints[0].pace.add(time.Second)
		p.ask(1, 0)
	}
}

// TestHurriedCaller: a caller with little time does not spend all of it on the first endpoint, and one that had a part of
// little time is not taken to be down.
func TestHurriedCaller(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.first.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 4*short)
	defer cancel()
	if _, err := p.HeadManifest(ctx, "app", oci.Reference{Tag: "1"}); err != nil {
		t.Error(err)
	}
	if p.endpoints[0].breaker.down() {
		t.Error("the first was left alone after half of a short time")
	}
}

// TestTimeOfAllEndpoints: the time to headers is that of all together.
func TestTimeOfAllEndpoints(t *testing.T) {
	t.Parallel()
	origin := upstreamtest.New(t)
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{Hang: true})
	r := build(t, Config{Endpoints: []string{origin.URL, origin.URL + "/a", origin.URL + "/b", origin.URL + "/c"}})
	r.times.header, r.times.total, r.times.least, r.times.fair = 15*short, 2*short, short/100, 5*short
	begin := time.Now()
	_, err := r.Blob(t.Context(), "app", oci.DigestOf(oci.SHA256, nil), 0, -1)
	if !errors.Is(err, ErrTimeout) || time.Since(begin) > 10*short {
		t.Errorf("got %v after %v", err, time.Since(begin))
	}
	if n := len(origin.Requests()); n != 4 {
		t.Errorf("%d requests, want one to each", n)
	}
}

// TestOutageIsNotMultiplied: of many requests that fail, one in ten is repeated.
func TestOutageIsNotMultiplied(t *testing.T) {
	origin := upstreamtest.New(t)
	origin.Fail(upstreamtest.Manifest, -1, upstreamtest.Fault{Status: 503})
	r := build(t, Config{Endpoints: []string{origin.URL}})
	r.times.backoff = time.Microsecond
	const calls = 200
	for range calls { // of one path, so that the breaker stays closed
		if _, err := r.HeadManifest(t.Context(), "app", oci.Reference{Tag: "1"}); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := len(origin.Requests()); n < calls+calls/10 || n > calls+calls/10+retryReserve {
		t.Errorf("%d requests for %d calls, want a tenth more, and %d", n, calls, retryReserve)
	}
}

// read reads some bytes of a download, which may break off.
func (p *pair) read(d *Download, start, end int64) ([]byte, error) {
	p.t.Helper()
	body, err := d.Open(p.t.Context(), start, end)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// TestDownloadGoesOnElsewhere: a blob that breaks off goes on at the next endpoint, from where it is.
func TestDownloadGoesOnElsewhere(t *testing.T) {
	const size, half = 100_000, 50_000
	breaksOff := upstreamtest.Fault{CutAfter: half}
	f := func(name string, second upstreamtest.Fault, wantFirst, wantSecond []string) {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, size)
			p.times.backoff = time.Microsecond
			layer := p.image.Layers[0]
			p.first.Fail(upstreamtest.Blob, 1, breaksOff)
			p.second.Fail(upstreamtest.Blob, 1, second)
			d := p.Download("app", layer.Digest)
			var got []byte
			for try := 0; len(got) < size && try < 5; try++ {
				part, _ := p.read(d, int64(len(got)), -1)
				got = append(got, part...)
			}
			if !bytes.Equal(got, layer.Bytes) {
				t.Errorf("got %d bytes", len(got))
			}
			if one, two := ranges(p.first), ranges(p.second); fmt.Sprint(one) != fmt.Sprint(wantFirst) || fmt.Sprint(two) != fmt.Sprint(wantSecond) {
				t.Errorf("asked the first for %q, the second for %q, want %q and %q", one, two, wantFirst, wantSecond)
			}
		})
	}
	rest := []string{"bytes=50000-"}
	f("sends the rest", upstreamtest.Fault{}, []string{""}, rest)
	f("does not have it", upstreamtest.Fault{Status: 404}, append([]string{""}, rest...), rest)
	f("denies it", upstreamtest.Fault{Status: 403}, append([]string{""}, rest...), rest)
	f("is in trouble", upstreamtest.Fault{Status: 500}, append([]string{""}, rest...), rest)
	f("breaks off, too", upstreamtest.Fault{CutAfter: 10_000}, []string{"", "bytes=60000-"}, rest)
	f("sends another range", upstreamtest.Fault{ContentRange: "bytes 0-9/10"}, append([]string{""}, rest...), rest)
}

// ranges returns the Range headers that a registry has seen for blobs.
func ranges(origin *upstreamtest.Registry) []string {
	var all []string
	for _, request := range origin.Requests() {
		if request.Kind == upstreamtest.Blob && request.Method == http.MethodGet {
			all = append(all, request.Header.Get("Range"))
		}
	}
	return all
}

// TestRejectedBody: what the caller does not like is not asked for at the same place again.
func TestRejectedBody(t *testing.T) {
	p := newPair(t, 1000)
	p.first.UseCDN()
	d := p.Download("app", p.image.Layers[0].Digest)
	for want := range 3 {
		body, err := d.Open(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		body.Reject()
		_ = body.Close()
		// The first is asked anew after the second was rejected, too, and not the place that it pointed to.
		one, two := p.first.Count(upstreamtest.Blob, ""), p.second.Count(upstreamtest.Blob, "")
		if one != (want+2)/2 || two != (want+1)/2 {
			t.Errorf("after %d bodies, the first was asked %d times, the second %d times", want+1, one, two)
		}
	}
}

// TestMissingEverywhere: what no endpoint has begun to send is not looked for at all of them.
func TestMissingEverywhere(t *testing.T) {
	p := newPair(t)
	_, err := p.Blob(t.Context(), "app", oci.DigestOf(oci.SHA256, []byte("none")), 0, -1)
	if !errors.Is(err, ErrNotFound) || len(p.second.Requests()) != 0 {
		t.Errorf("got %v after %d requests to the second", err, len(p.second.Requests()))
	}
}
