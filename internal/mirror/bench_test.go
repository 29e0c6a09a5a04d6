package mirror_test

import (
	"testing"

	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream/upstreamtest"
)

// BenchmarkManifest looks up a manifest in memory, as most pulls of most nodes do.
func BenchmarkManifest(b *testing.B) {
	origin := upstreamtest.New(b)
	image := origin.AddImage("org/app", "1", 100)
	h := open(b, origin, fresh(never))
	h.manifest("org/app", tag("1"), mirror.Miss)
	for h.manifest("org/app", tag("1"), mirror.Hit).Source != mirror.Memory {
		continue // it gets there behind the hits
	}
	repo := repository(b, "org/app")
	for name, ref := range map[string]oci.Reference{"tag": tag("1"), "digest": digest(image.Digest)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := h.Manifest(b.Context(), repo, ref); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkBlob opens and closes blobs: in memory, and on disk.
func BenchmarkBlob(b *testing.B) {
	origin := upstreamtest.New(b)
	image := origin.AddImage("org/app", "1", 5000, 2<<20)
	h := open(b, origin)
	h.pull("org/app", image)
	h.blob("org/app", image.Layers[0], mirror.Hit)
	repo := repository(b, "org/app")
	for name, layer := range map[string]upstreamtest.Content{"memory": image.Layers[0], "disk": image.Layers[1]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					blob, err := h.Blob(b.Context(), repo, layer.Digest)
					if err != nil {
						b.Error(err)
						return
					}
					_ = blob.Close() // nothing was read
				}
			})
		})
	}
}
