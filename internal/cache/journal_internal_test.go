package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"time"

	"mirror/internal/oci"
)

// sampleClaim claims the first hashed bytes of something, and two spans behind them.
func sampleClaim(alg oci.Algorithm, hashed int64) *claim {
	c := &claim{digest: oci.DigestOf(alg, []byte("whole")), size: 1000, hashed: hashed, present: spans{{0, 100}, {200, 300}, {999, 1000}}}
	if hashed > 0 {
		h := alg.New()
		_, _ = h.Write(make([]byte, hashed))
		c.state = appendState(nil, h)
	}
	return c
}

// seal gives changed bytes the checksum that goes with them.
func seal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[len(b)-4:], checksum(b[:len(b)-4]))
	return b
}

func TestClaimRoundTrip(t *testing.T) {
	for _, alg := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
		for _, hashed := range []int64{0, 1, 64, 100} {
			want := sampleClaim(alg, hashed)
			got, err := decodeClaim(want.encode())
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%v, %d hashed: got %+v and %v, want %+v", alg, hashed, got, err, want)
			}
			h, err := got.hash()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = h.Write([]byte("more"))
			if !oci.DigestOf(alg, append(make([]byte, hashed), "more"...)).Matches(h) {
				t.Errorf("%v: the hash does not continue after %d bytes", alg, hashed)
			}
		}
	}
}

func TestClaimIsRefused(t *testing.T) {
	good := sampleClaim(oci.SHA256, 50).encode()
	for n := range good {
		if _, err := decodeClaim(good[:n]); !errors.Is(err, errJournal) {
			t.Errorf("torn after %d bytes: %v", n, err)
		}
		if n > 4 {
			_, _ = decodeClaim(seal(bytes.Clone(good[:n]))) // must not panic
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		if _, err := decodeClaim(flipped); !errors.Is(err, errJournal) {
			t.Errorf("byte %d flipped: %v", n, err)
		}
	}
	f := func(name string, change func(*claim)) {
		t.Helper()
		c := sampleClaim(oci.SHA256, 50)
		change(c)
		if _, err := decodeClaim(c.encode()); !errors.Is(err, errJournal) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	f("size", func(c *claim) { c.size = -2 })
	f("span beyond the end", func(c *claim) { c.size = 999 })
	f("empty span", func(c *claim) { c.present[1].End = 200 })
	f("spans that touch", func(c *claim) { c.present[1].Start = 100 })
	f("spans out of order", func(c *claim) { c.present[0], c.present[1] = c.present[1], c.present[0] })
	f("negative span", func(c *claim) { c.present[0].Start = -5 })
	f("hashed beyond the first gap", func(c *claim) { c.hashed = 101 })
	f("hashed without a state", func(c *claim) { c.state = nil })
	f("a state without bytes", func(c *claim) { c.hashed = 0 })
	f("negative hashed", func(c *claim) { c.hashed = -1 })
	f("state of another algorithm", func(c *claim) { c.state = sampleClaim(oci.SHA512, 50).state })
	other := bytes.Clone(good)
	other[0]++
	if _, err := decodeClaim(seal(other)); !errors.Is(err, errJournal) {
		t.Errorf("another version: %v", err)
	}
	if _, err := decodeClaim(seal(append(bytes.Clone(good), 0))); !errors.Is(err, errJournal) {
		t.Errorf("a byte too many: %v", err)
	}
}

// FuzzDecodeClaim: whatever is in the file, the decoder does not panic, and what it takes is consistent and says the same
// when it is written again. The fuzzer need not find checksums: they are set right here.
func FuzzDecodeClaim(f *testing.F) {
	f.Add(sampleClaim(oci.SHA256, 0).encode())
	f.Add(sampleClaim(oci.SHA256, 50).encode())
	f.Add(sampleClaim(oci.SHA512, 100).encode())
	f.Add([]byte{journalVersion, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeClaim(b)
		if len(b) < 4 {
			return
		}
		b = seal(bytes.Clone(b))
		c, err := decodeClaim(b)
		if err != nil {
			return
		}
		if !bytes.Equal(c.encode(), b) {
			t.Errorf("%x is written again as %x", b, c.encode())
		}
		if total := c.present.total(); total < 0 || total > c.end() || c.hashed > total {
			t.Errorf("%d bytes claimed up to %d, %d hashed", total, c.end(), c.hashed)
		}
	})
}

func TestPartialNames(t *testing.T) {
	d := oci.DigestOf(oci.SHA512, nil)
	name := partialPath("", d, 1<<40)[len(partialDir)+1:]
	if got, n, ok := parseNumbered(name); got != d || n != 1<<40 || !ok {
		t.Errorf("%s: got %v, %d, %v", name, got, n, ok)
	}
	for _, bad := range []string{"", ".", "x", "sha256-00.1", name + ".journal", name + "x", d.Algorithm().String() + "-" + d.Encoded()} {
		if _, _, ok := parseNumbered(bad); ok {
			t.Errorf("%q is taken for a partial file", bad)
		}
	}
	for name, want := range map[string]bool{name: false, name + ".journal": true, name + ".journal.new": true, "x.new": false} {
		if got := isJournal(name); got != want {
			t.Errorf("%s is a journal: %v, want %v", name, got, want)
		}
	}
}

// TestAlmostWhole: no journal for what will be committed in two looks, at the rate of what has come.
func TestAlmostWhole(t *testing.T) {
	const mib = 1 << 20
	f := func(size, present, fresh int64, since time.Duration, want bool) {
		t.Helper()
		c := &claim{size: size, present: spans{{0, present}}}
		if got := c.almostWhole(fresh, since, time.Second); got != want {
			t.Errorf("%d of %d, %d of them in %v: %v", present, size, fresh, since, got)
		}
	}
	f(1000*mib, 400*mib, 400*mib, time.Second, true)
	f(1000*mib, 300*mib, 300*mib, time.Second, false)
	f(10000*mib, 400*mib, 400*mib, time.Second, false)
	f(1000*mib, 910*mib, 50*mib, time.Second, true)
	f(1000*mib, 910*mib, 50*mib, 2*time.Second, false) // what comes slowly now
	f(1000*mib, 999*mib, 1, time.Hour, false)
	f(-1, 400*mib, 400*mib, time.Second, false)
}
