package oci_test

import (
	"maps"
	"math/rand/v2"
	"testing"

	"mirror/internal/oci"
)

// TestDigestMap: whatever is done to it, a DigestMap holds what a Go map holds, also for digests of both algorithms that
// have the same first bytes, and for the zero digest.
func TestDigestMap(t *testing.T) {
	digests := []oci.Digest{{}}
	for i := range 20 {
		long := oci.DigestOf(oci.SHA512, []byte{byte(i)})
		short, err := oci.DigestFromBinary(append([]byte{byte(oci.SHA256)}, long.Binary()[1:33]...))
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, long, short)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var got oci.DigestMap[int]
	want := make(map[oci.Digest]int)
	for step := range 2000 {
		d := digests[random.IntN(len(digests))]
		if random.IntN(2) == 0 {
			got.Delete(d)
			delete(want, d)
		} else {
			got.Set(d, step)
			want[d] = step
		}
		if held := maps.Collect(got.All()); !maps.Equal(held, want) || got.Len() != len(want) {
			t.Fatalf("seed %d, step %d: %d digests, %v, want %v", seed, step, got.Len(), held, want)
		}
		for _, d := range digests {
			v, ok := got.Get(d)
			if w, wanted := want[d]; v != w || ok != wanted {
				t.Fatalf("seed %d, step %d: %v is %d (%v), want %d (%v)", seed, step, d, v, ok, w, wanted)
			}
		}
	}
}

// TestDigestMapStops: a loop that breaks off sees nothing more.
func TestDigestMapStops(t *testing.T) {
	var m oci.DigestMap[int]
	for i := range 4 {
		m.Set(oci.DigestOf(oci.SHA256, []byte{byte(i)}), i)
		m.Set(oci.DigestOf(oci.SHA512, []byte{byte(i)}), i)
	}
	for stop := 1; stop <= m.Len(); stop++ {
		seen := 0
		for range m.All() {
			if seen++; seen == stop {
				break
			}
		}
		if seen != stop {
			t.Errorf("a loop that stops after %d digests has seen %d", stop, seen)
		}
	}
}
