package upstreamtest_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/goleak"

	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get asks for a path and returns the status and body.
func get(t *testing.T, client *http.Client, address string) (int, string) {
	t.Helper()
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // broken off on purpose in some tests
	return resp.StatusCode, string(body)
}

func fresh(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestServesARealClient pulls an index with a client that others wrote.
func TestServesARealClient(t *testing.T) {
	origin := upstreamtest.New(t)
	first, second := origin.AddImage("team/app", "amd", 1000, 20), origin.AddImage("team/app", "arm", 300)
	origin.AddIndex("team/app", "1", first, second)
	origin.RequireToken("", "")
	client := fresh(t)
	ref, err := name.ParseReference(origin.Host+"/team/app:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref, remote.WithTransport(client.Transport), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("got %v, %v", manifest, err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("got %d layers, %v", len(layers), err)
	}
	content, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if got, err := io.ReadAll(content); err != nil || string(got) != string(first.Layers[0].Bytes) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got := origin.Sent(first.Layers[0].Digest); got != 1000 {
		t.Errorf("counted %d bytes, want 1000", got)
	}
	if origin.Count(upstreamtest.Token, "") == 0 || origin.Count(upstreamtest.Blob, "GET") != 1 {
		t.Errorf("requests: %v", origin.Requests())
	}
}

func TestStopAndStart(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", []byte("bytes"))
	client := fresh(t)
	address := origin.URL + "/v2/app/blobs/" + d.String()
	origin.Stop()
	if _, err := client.Get(address); err == nil {
		t.Error("answers while stopped")
	}
	origin.Start()
	if status, body := get(t, client, address); status != 200 || body != "bytes" {
		t.Errorf("got %d %q", status, body)
	}
}

func TestFaultsAreUsedUp(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", []byte("0123456789"))
	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{CutAfter: 4})
	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{Status: 503})
	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{Flip: []int64{0}, Rate: 1 << 20, Delay: time.Millisecond})
	client := fresh(t)
	f := func(wantStatus int, want string) {
		t.Helper()
		if status, body := get(t, client, origin.URL+"/v2/app/blobs/"+d.String()); status != wantStatus || body != want {
			t.Errorf("got %d %q, want %d %q", status, body, wantStatus, want)
		}
	}
	f(200, "0123")
	f(503, "")
	f(200, "\xcf123456789")
	f(200, "0123456789")
	if got := origin.Sent(d); got != 24 {
		t.Errorf("counted %d bytes, want 24", got)
	}
	origin.Reset()
	if origin.Sent(d) != 0 || len(origin.Requests()) != 0 {
		t.Error("Reset left something")
	}
}

func TestContentMoves(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("app", "1", 5)
	client := fresh(t)
	origin.Tag("app", "2", image.Digest)
	origin.Untag("app", "1")
	if status, _ := get(t, client, origin.URL+"/v2/app/manifests/1"); status != 404 {
		t.Errorf("a removed tag gives %d", status)
	}
	if status, body := get(t, client, origin.URL+"/v2/app/manifests/2"); status != 200 || oci.DigestOf(oci.SHA256, []byte(body)) != image.Digest {
		t.Errorf("a moved tag gives %d", status)
	}
	origin.Remove("app", image.Digest)
	if status, _ := get(t, client, origin.URL+"/v2/app/manifests/2"); status != 404 {
		t.Errorf("a removed manifest gives %d", status)
	}
}

// TestLost counts what was sent before a cut and is asked for again, and nothing of what was not cut.
func TestLost(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", make([]byte, 1000))
	client := fresh(t)
	ask := func(from string) {
		req, err := http.NewRequest(http.MethodGet, origin.URL+"/v2/app/blobs/"+d.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", "bytes="+from+"-")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // broken off on purpose
		resp.Body.Close()
	}
	f := func(from string, want int64) {
		t.Helper()
		if ask(from); origin.Lost(d) != want {
			t.Errorf("after a request from %s on, %d bytes are lost, want %d", from, origin.Lost(d), want)
		}
	}
	f("0", 0)
	f("100", 0) // nothing was cut
	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{CutAfter: 600})
	f("0", 0)
	f("450", 150)
	f("450", 150) // once
}
