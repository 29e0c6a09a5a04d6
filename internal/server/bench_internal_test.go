package server

import (
	"bufio"
	"io"
	"testing"

	"github.com/valyala/fasthttp"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// BenchmarkRoute takes requests apart.
func BenchmarkRoute(b *testing.B) {
	f := func(name, path, query string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseRoute(known{"docker.io"}, []byte(path), []byte(query), []byte("mirror.example")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("tag", "/v2/org/app/manifests/1.2", "")
	f("digest", "/v2/org/app/blobs/"+digest256, "")
	f("namespace", "/v2/org/app/blobs/"+digest256, "ns=ghcr.io")
}

// BenchmarkHeader makes the header of a hit and writes it.
func BenchmarkHeader(b *testing.B) {
	d := oci.MustParseDigest(digest256)
	out := bufio.NewWriter(io.Discard)
	var h fasthttp.ResponseHeader
	b.ReportAllocs()
	for b.Loop() {
		h.Reset()
		commonHeaders(&h, "abcdefghij-1")
		contentHeaders(&h, d, mirror.Hit, mirror.Memory)
		h.Set("Accept-Ranges", "bytes")
		h.SetContentType(typeOctetStream)
		h.SetContentLength(4096)
		if err := h.Write(out); err != nil {
			b.Fatal(err)
		}
	}
}
