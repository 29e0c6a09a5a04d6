package cache

import (
	"strings"
	"testing"

	"mirror/internal/oci"
	"mirror/internal/units"
)

// TestMemoryCollision: two digests with the same key never stand for each other.
func TestMemoryCollision(t *testing.T) {
	m, err := newMemory(MemoryConfig{MaxSize: units.MiB, MaxBlob: units.MiB}, hitBatch, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	one := oci.MustParseDigest("sha256:" + strings.Repeat("0", 64))
	two := oci.MustParseDigest("sha256:" + strings.Repeat("0", 63) + "1")
	m.take(&memoryBlob{digest: one, data: []byte("one"), entry: new(entry)})
	if b := m.get(one); b == nil || string(b.data) != "one" {
		t.Fatalf("got %v, want what was put", b)
	}
	if b := m.get(two); b != nil {
		t.Errorf("a digest with the same key gets %q", b.data)
	}
	m.take(&memoryBlob{digest: two, data: []byte("other"), entry: new(entry)})
	if b := m.get(one); b != nil {
		t.Errorf("the displaced digest gets %q", b.data)
	}
	if want := int64(len("other") + itemOverhead); m.bytes.Load() != want || m.blobs.Load() != 1 {
		t.Errorf("%d bytes of %d blobs are counted, want %d of 1", m.bytes.Load(), m.blobs.Load(), want)
	}
}

// TestOffersAreBounded: what waits for admission is bounded in number and in bytes.
func TestOffersAreBounded(t *testing.T) {
	m := &memory{maxBlob: 1 << 20, limit: 1 << 20, offers: make(chan *memoryBlob, offerQueue)}
	large := make([]byte, 1<<20)
	for range 10 {
		m.offer(oci.Digest{}, large, new(entry))
	}
	if got := len(m.offers); got != 1 {
		t.Errorf("%d offers of the limit's size wait, want 1", got)
	}
	m = &memory{maxBlob: 1 << 20, limit: 1 << 20, offers: make(chan *memoryBlob, offerQueue)}
	for range 10_000 {
		m.offer(oci.Digest{}, nil, new(entry))
	}
	if got, bytes := len(m.offers), m.offered.Load(); got != offerQueue || bytes != offerQueue*itemOverhead {
		t.Errorf("%d offers of %d bytes wait, want %d of %d", got, bytes, offerQueue, offerQueue*itemOverhead)
	}
}
