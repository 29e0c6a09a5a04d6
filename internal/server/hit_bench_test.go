package server_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"mirror/internal/server"
)

// BenchmarkHit measures hits over kept connections, client included: small content from memory and large from disk.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			h := newHarnessWith(b, options{level: slog.LevelWarn})
			d := h.hub.AddBlob("org/app", pattern(size))
			h.get(blobPath("org/app", d)).want(b, 200)
			h.stored(d)
			raw := request("GET", blobPath("org/app", d))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) { ask(b, h.addr, raw, int64(size), pb) })
		})
	}
}

// ask sends one request after the other on one connection.
func ask(b *testing.B, addr, raw string, size int64, pb *testing.PB) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	in := bufio.NewReaderSize(c, 256<<10)
	for pb.Next() {
		if _, err := io.WriteString(c, raw); err != nil {
			b.Error(err)
			return
		}
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			b.Error(err)
			return
		}
		if n, err := io.Copy(io.Discard, response.Body); n != size || err != nil {
			b.Errorf("got %d bytes, %v", n, err)
			return
		}
	}
}

// BenchmarkQuick measures hits in memory without the connection.
func BenchmarkQuick(b *testing.B) {
	h := newHarnessWith(b, options{level: slog.LevelWarn})
	h.hub.AddImage("org/app", "1", 100)
	blob := h.hub.AddBlob("org/app", pattern(4096))
	for what, raw := range map[string]string{
		"manifest by tag": request("GET", "/v2/org/app/manifests/1", "Accept: application/vnd.oci.image.manifest.v1+json"),
		"head":            request("HEAD", "/v2/org/app/manifests/1"),
		"blob":            request("GET", blobPath("org/app", blob)),
	} {
		b.Run(what, func(b *testing.B) {
			h.warm(raw)
			q := server.NewQuick(h.server, raw)
			b.ReportAllocs()
			for b.Loop() {
				q.Answer()
			}
		})
	}
}
