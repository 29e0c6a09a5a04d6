package cache

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"mirror/internal/oci"
)

// BenchmarkColdest chooses two percent of a table of a million contents, of which a tenth are newcomers.
func BenchmarkColdest(b *testing.B) {
	const count, size, day = 1_000_000, 1 << 20, 24 * 3600
	random := rand.New(rand.NewPCG(1, 0))
	x := newIndex()
	for i := range count {
		first := random.Int64N(30 * day)
		use := FirstUse(first)
		for range min(i%10, 3) {
			use = use.Again(first + random.Int64N(10*day))
		}
		d := oci.DigestOf(oci.SHA256, binary.LittleEndian.AppendUint64(nil, uint64(i)))
		x.put(d, newEntry(record{size: size, stored: first, use: use}))
	}
	b.ReportAllocs()
	for b.Loop() {
		if chosen := Coldest(x.candidates(), count*size/50, count*size, 40*day); len(chosen) != count/50 {
			b.Fatalf("%d are chosen", len(chosen))
		}
	}
}
