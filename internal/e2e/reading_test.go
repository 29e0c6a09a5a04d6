//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
)

// reading is a client in the middle of a blob.
type reading struct {
	layer  layer
	header http.Header
	body   io.ReadCloser
	sofar  bytes.Buffer
	cancel context.CancelFunc
}

// startReading asks for a blob and reads its first n bytes.
func startReading(t *testing.T, m *mirror, i *image, l layer, n int64) *reading {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	res, err := open(ctx, newClient(t), m.url+i.blobPath(l))
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.ContentLength != l.size {
		t.Fatalf("get blob: status %d, length %d, want 200 and %d", res.StatusCode, res.ContentLength, l.size)
	}
	r := &reading{layer: l, header: res.Header, body: res.Body, cancel: cancel}
	t.Cleanup(r.leave)
	r.more(t, n)
	return r
}

// more reads n more bytes.
func (r *reading) more(t *testing.T, n int64) {
	t.Helper()
	if _, err := io.CopyN(&r.sofar, r.body, n); err != nil {
		t.Fatalf("read blob after %d of %d bytes: %v", r.sofar.Len(), r.layer.size, err)
	}
}

// finish reads the rest and compares the whole with the digest.
func (r *reading) finish(t *testing.T) {
	t.Helper()
	if _, err := verify(io.MultiReader(&r.sofar, r.body), r.layer.digest); err != nil {
		t.Fatal(err)
	}
}

// leave closes the connection, however much of the body is left.
func (r *reading) leave() {
	r.cancel()
	_ = r.body.Close()
}
