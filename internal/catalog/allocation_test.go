package catalog_test

import (
	"testing"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

func TestHotPathAllocations(t *testing.T) {
	c := open(t, t.TempDir())
	long := oci.DigestOf(oci.SHA512, nil)
	mustSetTag(t, c, debian, "latest", pointing(1))
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): {MediaType: "a/b"}, long: {MediaType: "a/b"}})
	allocations := testing.AllocsPerRun(1000, func() {
		_, tagOK := c.Tag(debian, "latest")
		_, linkOK := c.Link(debian, numberedOne)
		_, longOK := c.Link(debian, long)
		_, missing := c.Link(app, long)
		if !tagOK || !linkOK || !longOK || missing {
			panic("lookups went wrong")
		}
	})
	if allocations != 0 {
		t.Errorf("lookups allocate %v times", allocations)
	}
}

// numberedOne is made outside of what is measured.
var numberedOne = numbered(1)

func BenchmarkLookup(b *testing.B) {
	c := open(b, b.TempDir())
	mustSetTag(b, c, debian, "latest", pointing(1))
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numberedOne: {MediaType: "a/b", Size: 5}})
	b.Run("tag", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, ok := c.Tag(debian, "latest"); !ok {
					b.Fail()
				}
			}
		})
	})
	b.Run("link", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, ok := c.Link(debian, numberedOne); !ok {
					b.Fail()
				}
			}
		})
	})
}
