package upstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"mirror/internal/oci"
	"mirror/internal/units"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// content is a blob whose bytes tell their offset.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestBlob(t *testing.T) {
	origin := upstreamtest.New(t)
	blob := content(10_000)
	d := origin.AddBlob("app", blob)
	r := connect(t, origin, nil)
	f := func(start, end int64, wantRange string) {
		t.Helper()
		body, err := r.Blob(t.Context(), "app", d, start, end)
		if err != nil {
			t.Errorf("[%d, %d): %v", start, end, err)
			return
		}
		defer body.Close()
		got, err := io.ReadAll(body)
		last := end
		if end < 0 || end > int64(len(blob)) {
			last = int64(len(blob))
		}
		if err != nil || body.Start != start || body.Size != int64(len(blob)) || !bytes.Equal(got, blob[start:last]) {
			t.Errorf("[%d, %d): %d bytes from %d of %d, %v", start, end, len(got), body.Start, body.Size, err)
		}
		requests := origin.Requests()
		if sent := requests[len(requests)-1].Header.Get("Range"); sent != wantRange {
			t.Errorf("[%d, %d): sent Range %q, want %q", start, end, sent, wantRange)
		}
	}
	f(0, -1, "")
	f(0, 1, "bytes=0-0")
	f(0, 10_000, "bytes=0-9999")
	f(4000, -1, "bytes=4000-")
	f(4000, 5000, "bytes=4000-4999")
	f(9999, 10_000, "bytes=9999-9999")
	f(9000, 20_000, "bytes=9000-19999")
	if got := r.count(t, "mirror_upstream_bytes_total", nil); got != float64(origin.Sent(d)) || got == 0 {
		t.Errorf("counted %v bytes, the upstream sent %d", got, origin.Sent(d))
	}
}

// TestBlobFaults walks through what is noticed before the first byte.
func TestBlobFaults(t *testing.T) {
	f := func(name string, n int, fault upstreamtest.Fault, want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			d := origin.AddBlob("app", content(1000))
			origin.Fail(upstreamtest.Blob, n, fault)
			body, err := connect(t, origin, nil).Blob(t.Context(), "app", d, 100, 300)
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if err == nil {
				_ = body.Close()
			}
		})
	}
	f("404", -1, upstreamtest.Fault{Status: 404}, upstream.ErrNotFound)
	f("403", -1, upstreamtest.Fault{Status: 403}, upstream.ErrDenied)
	f("416", -1, upstreamtest.Fault{Status: 416}, upstream.ErrWrongContent)
	f("503 once", 1, upstreamtest.Fault{Status: 503}, nil)
	f("503", -1, upstreamtest.Fault{Status: 503}, upstream.ErrUnavailable)
	f("web page", -1, upstreamtest.Fault{HTML: true}, upstream.ErrWrongContent)
	f("other start", -1, upstreamtest.Fault{ContentRange: "bytes 99-298/1000"}, upstream.ErrWrongContent)
	f("other end", -1, upstreamtest.Fault{ContentRange: "bytes 100-298/1000"}, upstream.ErrWrongContent)
	f("beyond the end", -1, upstreamtest.Fault{ContentRange: "bytes 100-299/250"}, upstream.ErrWrongContent)
	f("longer than Content-Range", -1, upstreamtest.Fault{Extra: 1}, upstream.ErrWrongContent)
	f("no Content-Range", -1, upstreamtest.Fault{ContentRange: " "}, upstream.ErrWrongContent)
	f("several ranges", -1, upstreamtest.Fault{ContentRange: "x", ContentType: "multipart/byteranges; boundary=x"}, upstream.ErrWrongContent)
	f("length of the whole unknown", -1, upstreamtest.Fault{ContentRange: "bytes 100-299/*"}, nil)
}

func TestBlobBody(t *testing.T) {
	blob := content(100_000)
	f := func(name string, start, end int64, fault upstreamtest.Fault, wantStart, wantSize int64, wantBytes int, want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			d := origin.AddBlob("app", blob)
			origin.Fail(upstreamtest.Blob, -1, fault)
			body, err := connect(t, origin, nil).Blob(t.Context(), "app", d, start, end)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			if body.Start != wantStart || body.Size != wantSize || len(got) != wantBytes || !errors.Is(err, want) {
				t.Errorf("%d bytes from %d of %d, %v; want %d from %d of %d, %v",
					len(got), body.Start, body.Size, err, wantBytes, wantStart, wantSize, want)
			}
		})
	}
	f("range ignored", 500, 600, upstreamtest.Fault{NoRange: true}, 0, 100_000, 100_000, nil)
	f("no length", 0, -1, upstreamtest.Fault{NoLength: true}, 0, -1, 100_000, nil)
	f("no length of a range", 500, 600, upstreamtest.Fault{NoLength: true}, 500, 100_000, 100, nil)
	f("more than the range", 500, 600, upstreamtest.Fault{NoLength: true, Extra: 9}, 500, 100_000, 100, upstream.ErrWrongContent)
	f("less than the range", 500, 700, upstreamtest.Fault{NoLength: true, CutAfter: 50}, 500, 100_000, 50, io.ErrUnexpectedEOF)
	f("cut", 0, -1, upstreamtest.Fault{CutAfter: 70_000}, 0, 100_000, 70_000, io.ErrUnexpectedEOF)
	f("cut without length", 0, -1, upstreamtest.Fault{CutAfter: 70_000, NoLength: true}, 0, -1, 70_000, io.ErrUnexpectedEOF)
}

func TestBlobStaysPacked(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", make([]byte, 5000))
	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{Gzip: true})
	body, err := connect(t, origin, nil).Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, _ := io.ReadAll(body); len(got) < 2 || got[0] != 0x1f || got[1] != 0x8b || int64(len(got)) != body.Size {
		t.Errorf("got %d bytes of %d, want the raw packed bytes", len(got), body.Size)
	}
}

func TestHeadBlob(t *testing.T) {
	f := func(name string, fault upstreamtest.Fault, wantSize int64, want error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			origin := upstreamtest.New(t)
			d := origin.AddBlob("app", content(1234))
			origin.FailMethod(upstreamtest.Blob, http.MethodHead, -1, fault)
			size, err := connect(t, origin, nil).HeadBlob(t.Context(), "app", d)
			if size != wantSize || !errors.Is(err, want) {
				t.Errorf("got %d, %v, want %d, %v", size, err, wantSize, want)
			}
		})
	}
	f("proper", upstreamtest.Fault{}, 1234, nil)
	f("405", upstreamtest.Fault{Status: 405}, 1234, nil)
	f("no length", upstreamtest.Fault{NoLength: true}, -1, nil)
	f("404", upstreamtest.Fault{Status: 404}, 0, upstream.ErrNotFound)
}

func TestHeadBlobWhereStorageWantsGet(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", content(1234))
	origin.UseCDN()
	origin.FailMethod(upstreamtest.CDN, http.MethodHead, -1, upstreamtest.Fault{Status: 403})
	if size, err := connect(t, origin, nil).HeadBlob(t.Context(), "app", d); err != nil || size != 1234 {
		t.Errorf("got %d, %v, want 1234", size, err)
	}
}

func TestRedirectToStorage(t *testing.T) {
	origin := upstreamtest.New(t)
	blob := content(5000)
	d := origin.AddBlob("app", blob)
	origin.RequireToken("robot", "secret")
	origin.UseCDN()
	r := connect(t, origin, withPassword(t, "robot", "secret"))
	body, err := r.Blob(t.Context(), "app", d, 1000, 2000)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, blob[1000:2000]) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	for _, request := range origin.Requests() {
		if request.Kind != upstreamtest.CDN {
			continue
		}
		for _, secret := range []string{"Authorization", "Cookie", "Via"} {
			if request.Header.Get(secret) != "" {
				t.Errorf("storage was sent %s", secret)
			}
		}
		for key, want := range map[string]string{"Range": "bytes=1000-1999", "User-Agent": "mirror/1.2.3", "Accept-Encoding": "identity"} {
			if got := request.Header.Get(key); got != want {
				t.Errorf("storage was sent %s %q, want %q", key, got, want)
			}
		}
	}
	if got := r.count(t, "mirror_upstream_requests_total", map[string]string{"kind": "redirect", "code": "206"}); got != 1 {
		t.Errorf("counted %v hops, want 1", got)
	}
}

func TestRedirectTargetRefuses(t *testing.T) {
	for _, status := range []int{401, 403, 404, 410} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			origin := upstreamtest.New(t)
			d := origin.AddBlob("app", content(100))
			origin.UseCDN()
			r := connect(t, origin, nil)

			origin.Fail(upstreamtest.CDN, 1, upstreamtest.Fault{Status: status})
			body, err := r.Blob(t.Context(), "app", d, 0, -1)
			if err != nil {
				t.Fatalf("after one refusal: %v", err)
			}
			_ = body.Close()
			if n := origin.Count(upstreamtest.Blob, ""); n != 2 {
				t.Errorf("the registry was asked %d times, want again after the refusal", n)
			}

			origin.Reset()
			origin.Fail(upstreamtest.CDN, -1, upstreamtest.Fault{Status: status})
			_, err = r.Blob(t.Context(), "app", d, 0, -1)
			if !errors.Is(err, upstream.ErrUnavailable) || errors.Is(err, upstream.ErrNotFound) || errors.Is(err, upstream.ErrDenied) {
				t.Errorf("got %v, want ErrUnavailable: the registry itself has the blob", err)
			}
			if n := origin.Count(upstreamtest.Blob, ""); n != 2 {
				t.Errorf("the registry was asked %d times, want 2", n)
			}
		})
	}
}

func TestStorageDownLeavesRegistryAlone(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", content(100))
	origin.AddImage("app", "1")
	origin.UseCDN()
	origin.Fail(upstreamtest.CDN, -1, upstreamtest.Fault{Status: 503})
	r := connect(t, origin, nil)
	for range 4 {
		if _, err := r.Blob(t.Context(), "app", d, 0, -1); !errors.Is(err, upstream.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	if _, err := r.Manifest(t.Context(), "app", tag("1")); err != nil {
		t.Errorf("manifests are gone with the storage: %v", err)
	}
}

// TestManifestsElsewhere is about registries that send every question on, such as registry.k8s.io: what the other place
// does not know is not known.
func TestManifestsElsewhere(t *testing.T) {
	origin, backend := upstreamtest.New(t), upstreamtest.New(t)
	image := backend.AddImage("app", "1")
	origin.Hook(func(req *http.Request) *upstreamtest.Fault {
		return &upstreamtest.Fault{Redirect: backend.URL + req.URL.Path}
	})
	r := connect(t, origin, nil)
	if m, err := r.Manifest(t.Context(), "app", tag("1")); err != nil || m.Digest != image.Digest {
		t.Errorf("got %v, %v", m.Digest, err)
	}
	if _, err := r.Manifest(t.Context(), "app", tag("2")); !errors.Is(err, upstream.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if accept := backend.Requests()[0].Header.Get("Accept"); accept == "" {
		t.Error("the other place was not told which manifests are wanted")
	}
}

func TestBandwidth(t *testing.T) {
	origin := upstreamtest.New(t)
	blob := content(300_000)
	d := origin.AddBlob("app", blob)
	// The burst is 64 KiB, and what is beyond it takes its time at 4 MiB/s.
	r := connect(t, origin, func(c *upstream.Config) { c.Limits.Bandwidth = units.Rate(4 << 20) })
	body, err := r.Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, blob) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestCloseEndsTransfer(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", content(100_000))
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 1000})
	body, err := connect(t, origin, nil).Blob(t.Context(), "app", d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := body.Read(make([]byte, 1))
		ended <- err
	}()
	_ = body.Close()
	if err := <-ended; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a read of a closed body returned %v", err)
	}
}

func TestBlobUnderSHA512(t *testing.T) {
	origin := upstreamtest.New(t)
	blob := content(64)
	d := oci.DigestOf(oci.SHA512, blob)
	origin.AddBlobUnder("app", d, blob)
	if size, err := connect(t, origin, nil).HeadBlob(t.Context(), "app", d); err != nil || size != 64 {
		t.Errorf("got %d, %v", size, err)
	}
}

// The first bytes of a transfer do not wait behind the bandwidth that others have used up.
func TestFirstBytesDoNotWait(t *testing.T) {
	origin := upstreamtest.New(t)
	content := make([]byte, 1<<20)
	d := origin.AddBlob("app", content)
	r := connect(t, origin, func(c *upstream.Config) { c.Limits.Bandwidth = 1 << 10 })
	var begun []*upstream.Body
	for range 10 { // 160 KiB, for which the bandwidth would want a minute and a half
		body, err := r.Blob(t.Context(), "app", d, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer time.AfterFunc(20*time.Second, func() { _ = body.Close() }).Stop()
		begun = append(begun, body)
		if _, err := io.ReadFull(body, make([]byte, 16<<10)); err != nil {
			t.Error(err)
		}
	}
	for _, body := range begun {
		_ = body.Close()
	}
}
