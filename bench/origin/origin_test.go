package origin_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mirror/bench/origin"
)

// image makes a small image and serves it.
func image(t *testing.T) (*origin.Image, *origin.Registry, string) {
	t.Helper()
	dir := t.TempDir()
	i := &origin.Image{Repository: "bench/app", Sizes: []int64{100_000, 7}}
	if err := i.Make(dir); err != nil {
		t.Fatal(err)
	}
	r, err := origin.Serve(dir, origin.Link{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return i, r, dir
}

func get(t *testing.T, r *origin.Registry, path, ranges string) (int, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Address()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func TestImageIsTheSameEachTime(t *testing.T) {
	first, _, dir := image(t)
	second, _, _ := image(t)
	if first.Manifest != second.Manifest {
		t.Errorf("manifests of two runs are %s and %s", first.Manifest, second.Manifest)
	}
	kept := filepath.Join(dir, first.LayerPath(0))
	before, err := os.Stat(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Make(dir); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(kept); err != nil || !os.SameFile(before, after) {
		t.Errorf("the layer was made again, or is gone: %v", err)
	}
	if err := (&origin.Image{Repository: "bench/app", Sizes: []int64{1, 2}}).Make(dir); err == nil {
		t.Error("an image of other sizes was taken for this one")
	}
}

func TestRegistryServesAndCounts(t *testing.T) {
	i, r, _ := image(t)
	for _, reference := range []string{origin.Tag, i.Manifest.String()} {
		if status, body, err := get(t, r, i.ManifestPath(reference), ""); status != 200 || err != nil || !i.Manifest.Verifies(body) {
			t.Errorf("manifest %s: %d, %v, %q", reference, status, err, body)
		}
	}
	status, body, err := get(t, r, i.LayerPath(0), "")
	if status != 200 || err != nil || fmt.Sprintf("%x", sha256.Sum256(body)) != i.Layers[0].Encoded() {
		t.Errorf("layer: %d, %v, %d bytes", status, err, len(body))
	}
	if status, part, err := get(t, r, i.LayerPath(0), "bytes=10-19"); status != 206 || err != nil || string(part) != string(body[10:20]) {
		t.Errorf("range: %d, %v, %d bytes", status, err, len(part))
	}
	if status, _, _ := get(t, r, "/v2/bench/app/blobs/..", ""); status != 404 {
		t.Errorf("a path that leads elsewhere: %d", status)
	}
	if got, want := r.Counts(), (origin.Counts{Requests: 5, BlobRequests: 2, Sent: 100_010}); got != want {
		t.Errorf("counts are %+v, want %+v", got, want)
	}
}

func TestFaults(t *testing.T) {
	i, r, _ := image(t)
	r.Shape(origin.Link{}, origin.Faults{RefuseEvery: 2, CutEvery: 2, CutAfter: 70_000})
	if status, _, err := get(t, r, i.LayerPath(0), ""); status != 200 || err != nil {
		t.Errorf("first: %d, %v", status, err)
	}
	if status, _, _ := get(t, r, i.LayerPath(0), ""); status != 503 {
		t.Errorf("second: %d, want 503", status)
	}
	if _, body, err := get(t, r, i.LayerPath(0), ""); err == nil || len(body) > 70_000 {
		t.Errorf("third: %d bytes and %v, want it cut after 70000", len(body), err)
	}
}

func TestLinkHoldsItsRate(t *testing.T) {
	i, r, _ := image(t)
	r.Shape(origin.Link{Latency: 5 * time.Millisecond, Each: 1_000_000}, origin.Faults{})
	begun := time.Now()
	if _, _, err := get(t, r, i.LayerPath(0), ""); err != nil {
		t.Fatal(err)
	}
	// What a link was idle for it may catch up with, and the last piece is on its way before its time is over.
	if took, least := time.Since(begun), 40*time.Millisecond; took < least {
		t.Errorf("100 kB at 1 MB/s took %v, want %v at least", took, least)
	}
}
