//go:build e2e

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// manifestTypes is what a modern client accepts. Without it a registry of this age answers a tag with a converted manifest.
const manifestTypes = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

// answer is a whole HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// newClient returns a client with connections of its own, as each machine of a fleet has.
func newClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get fetches a URL whole and fails the test when that is not possible. Headers are given as name, value pairs.
func get(t *testing.T, client *http.Client, url string, header ...string) answer {
	t.Helper()
	a, err := fetch(t.Context(), client, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fetch fetches a URL whole, for at most two minutes. A short body is an error.
func fetch(ctx context.Context, client *http.Client, url string, header ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	res, err := open(ctx, client, url, header...)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, fmt.Errorf("read %s after %d of %d bytes: %w", url, len(body), res.ContentLength, err)
	}
	return answer{res.StatusCode, res.Header, body}, nil
}

// open sends a GET and returns once the headers are there. The caller closes the body.
func open(ctx context.Context, client *http.Client, url string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return client.Do(req)
}

// verify reads a blob to its end and compares it with its digest. It returns how many bytes there were.
func verify(body io.Reader, digest string) (int64, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, body)
	if err != nil {
		return n, fmt.Errorf("read %s after %d bytes: %w", digest, n, err)
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != digest {
		return n, fmt.Errorf("content of %s has digest %s", digest, got)
	}
	return n, nil
}

// pullBlob fetches a blob through a mirror and verifies it.
func pullBlob(ctx context.Context, client *http.Client, url string, l layer) (http.Header, error) {
	res, err := open(ctx, client, url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
		return nil, fmt.Errorf("get %s: status %d: %s", url, res.StatusCode, text)
	}
	n, err := verify(res.Body, l.digest)
	if err == nil && n != l.size {
		err = fmt.Errorf("blob %s has %d bytes, want %d", l.digest, n, l.size)
	}
	return res.Header, err
}

// mustPull fetches and verifies a blob and returns the headers that came with it.
func mustPull(t *testing.T, m *mirror, i *image, l layer) http.Header {
	t.Helper()
	header, err := pullBlob(t.Context(), newClient(t), m.url+i.blobPath(l), l)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// truth reads content from the registry itself, to compare with what the mirror gives.
func truth(t *testing.T, r *registry, path string) []byte {
	t.Helper()
	a := get(t, newClient(t), "http://"+r.addr+path, "Accept", manifestTypes)
	if a.status != http.StatusOK {
		t.Fatalf("registry answers %d for %s: %s", a.status, path, a.body)
	}
	return a.body
}

// rawGet sends a request over a bare connection and reads until the mirror closes it. A connection that ends by a reset
// instead of an orderly close is a failure: clients resume after the one and give up after the other.
func rawGet(t *testing.T, m *mirror, path string) (*http.Response, []byte, error) {
	t.Helper()
	conn, err := net.Dial("tcp", m.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\nConnection: close\r\n\r\n", path, m.addr, manifestTypes)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("GET %s: connection did not end by an orderly close after %d bytes: %v", path, len(all), err)
	}
	return parseAnswer(t, all)
}

// parseAnswer splits what came over a connection. The error is that of a body shorter than announced.
func parseAnswer(t *testing.T, all []byte) (*http.Response, []byte, error) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), &http.Request{Method: http.MethodGet})
	if err != nil {
		t.Fatalf("read answer %q: %v", all[:min(len(all), 200)], err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// same compares content without printing megabytes of it.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: got %d bytes with sum %x, want %d bytes with sum %x",
			what, len(got), sha256.Sum256(got), len(want), sha256.Sum256(want))
	}
}

// pullManifest fetches what the image's tag names and compares the answer with it. The query, which may be empty, says
// which registry is meant.
func pullManifest(ctx context.Context, client *http.Client, m *mirror, i *image, query string) error {
	a, err := fetch(ctx, client, m.url+i.manifestPath(i.tag)+query, "Accept", manifestTypes)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("get manifest of %s: status %d: %.200s", i.repository, a.status, a.body)
	}
	if _, err := verify(bytes.NewReader(a.body), i.digest); err != nil {
		return err
	}
	if got := a.header.Get("Docker-Content-Digest"); got != i.digest {
		return fmt.Errorf("manifest of %s comes with digest %q, want %s", i.repository, got, i.digest)
	}
	return nil
}

// pullImage pulls the tag and all blobs of an image, one after another, and verifies them.
func pullImage(ctx context.Context, client *http.Client, m *mirror, i *image, query string) error {
	if err := pullManifest(ctx, client, m, i, query); err != nil {
		return err
	}
	for _, l := range append([]layer{i.config}, i.layers...) {
		if _, err := pullBlob(ctx, client, m.url+i.blobPath(l)+query, l); err != nil {
			return err
		}
	}
	return nil
}

// pullPlain is pullImage for a test that has nothing to do when it fails.
func pullPlain(t *testing.T, m *mirror, i *image, query string) {
	t.Helper()
	if err := pullImage(t.Context(), newClient(t), m, i, query); err != nil {
		t.Fatal(err)
	}
}
