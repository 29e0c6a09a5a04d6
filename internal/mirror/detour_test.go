package mirror_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"mirror/internal/mirror"
	"mirror/internal/upstream/upstreamtest"
)

// Whoever shares the download of another repository's client does not suffer when that repository breaks off for good.
func TestSharedDownloadBreaksOff(t *testing.T) {
	origin := upstreamtest.New(t)
	layer := origin.AddImage("first", "1", 6<<20).Layers[0]
	origin.AddBlob("second", layer.Bytes)
	var asked atomic.Int32
	origin.Hook(func(r *http.Request) *upstreamtest.Fault {
		switch {
		case r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/first/blobs/"):
			return nil
		case asked.Add(1) == 1:
			return &upstreamtest.Fault{Rate: 6 << 20, CutAfter: 3 << 20}
		}
		return &upstreamtest.Fault{Status: http.StatusNotFound}
	})
	h := open(t, origin)
	first, err := h.Blob(t.Context(), repository(t, "first"), layer.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := h.Blob(t.Context(), repository(t, "second"), layer.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.Outcome != mirror.Join {
		t.Errorf("outcome %v, want a join", second.Outcome)
	}
	var got bytes.Buffer
	if _, err := second.WriteRange(&got, 0, -1); err != nil || !bytes.Equal(got.Bytes(), layer.Bytes) {
		t.Errorf("got %d of %d bytes: %v", got.Len(), layer.Size, err)
	}
	if extra := origin.Sent(layer.Digest) - layer.Size; extra > 1<<20 {
		t.Errorf("%d bytes were sent twice", extra)
	}
}
