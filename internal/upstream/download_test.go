package upstream_test

import (
	"bytes"
	"io"
	"testing"

	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// segment fetches [start, end) of a download and compares it.
func segment(t *testing.T, d *upstream.Download, blob []byte, start, end int64) {
	t.Helper()
	body, err := d.Open(t.Context(), start, end)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, blob[start:end]) || body.Whole {
		t.Errorf("[%d, %d): got %d bytes, whole %v, %v", start, end, len(got), body.Whole, err)
	}
}

// TestDownload: of the requests for the parts of one blob, only the first asks the registry, until the place it pointed to
// refuses, as signed addresses do when they expire. Another download asks anew.
func TestDownload(t *testing.T) {
	for _, status := range []int{401, 403, 404, 410, 503} {
		origin := upstreamtest.New(t)
		blob := content(9000)
		d := origin.AddBlob("app", blob)
		origin.RequireToken("robot", "secret")
		origin.UseCDN()
		r := connect(t, origin, withPassword(t, "robot", "secret"))
		f := func(download *upstream.Download, start, end int64, asked int) {
			t.Helper()
			origin.Reset()
			segment(t, download, blob, start, end)
			if got := origin.Count(upstreamtest.Blob, ""); got != asked {
				t.Errorf("[%d, %d): the registry was asked %d times, want %d", start, end, got, asked)
			}
			for _, request := range origin.Requests() {
				if request.Kind == upstreamtest.CDN && request.Header.Get("Authorization") != "" {
					t.Error("storage was sent the token")
				}
			}
		}
		download := r.Download("app", d)
		f(download, 0, 3000, 2) // refused without a token first
		f(download, 3000, 6000, 0)
		origin.Fail(upstreamtest.CDN, 1, upstreamtest.Fault{Status: status})
		f(download, 6000, 9000, 1)
		f(download, 1000, 2000, 0)
		f(r.Download("app", d), 0, 3000, 1)
	}
}
