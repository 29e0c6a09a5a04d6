package catalog

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"mirror/internal/oci"
)

var (
	recordTime   = time.UnixMicro(1795262400123456)
	recordDigest = oci.DigestOf(oci.SHA256, []byte("record"))
	longDigest   = oci.DigestOf(oci.SHA512, []byte("record"))
	recordName   = oci.Repository{Registry: "registry.example:5000", Name: "a/b"}
)

// sampleOperations are records of every kind, for tests and as seeds.
func sampleOperations() []operation {
	return []operation{
		putRepository(7, recordName),
		putTag(7, "latest", Tag{Descriptor: oci.Descriptor{MediaType: "a/b", Digest: recordDigest, Size: 5}, CheckedAt: recordTime}),
		putTag(7, "t", Tag{Descriptor: oci.Descriptor{Digest: longDigest, Size: -1}}),
		putLink(7, recordDigest, Link{MediaType: "a/b", Size: 5, Confirmed: true}),
		putLink(7, longDigest, Link{Size: -1}),
		putList(listName{7, "tags?n=1"}, List{Body: []byte("body"), CheckedAt: recordTime}),
		putList(listName{7, ""}, List{}),
	}
}

// reread reads a record and returns what writing it again gives, or an error.
func reread(b bucket, key, record []byte) (operation, error) {
	switch b {
	case repositoriesBucket:
		id, name, err := readRepository(key, record)
		return putRepository(id, name), err
	case tagsBucket:
		id, tag, t, err := readTag(key, record)
		return putTag(id, tag, t), err
	case linksBucket:
		id, d, l, err := readLink(key, record)
		return putLink(id, d, l), err
	}
	name, entry, err := readListEntry(key, record)
	if err != nil {
		return operation{}, err
	}
	l, err := readList(key, record)
	if err == nil && (int64(len(l.Body)) != entry.size || !l.CheckedAt.Equal(entry.checkedAt)) {
		return operation{}, errors.New("entry and list differ")
	}
	return putList(name, l), err
}

func TestRecordsSurvive(t *testing.T) {
	for _, o := range sampleOperations() {
		again, err := reread(o.bucket, o.key, o.value)
		if err != nil || !bytes.Equal(again.key, o.key) || !bytes.Equal(again.value, o.value) {
			t.Errorf("%s %x %x reads back as %x %x, %v", o.bucket.name(), o.key, o.value, again.key, again.value, err)
		}
	}
}

// TestRecordLayout holds the format still: a file of yesterday must be readable tomorrow.
func TestRecordLayout(t *testing.T) {
	f := func(o operation, key, record string) {
		t.Helper()
		if string(o.key) != key || string(o.value[:len(o.value)-sumSize]) != record {
			t.Errorf("%s: %q %q, want %q %q", o.bucket.name(), o.key, o.value, key, record)
		}
	}
	short := string(recordDigest.Binary())
	f(putRepository(258, recordName), "\x00\x00\x01\x02", "\x01registry.example:5000\x00a/b")
	f(putTag(7, "t", Tag{Descriptor: oci.Descriptor{MediaType: "a/b", Digest: recordDigest, Size: 5}, CheckedAt: time.UnixMicro(258)}),
		"\x00\x00\x00\x07t", "\x01\x05\x00\x00\x00\x00\x00\x00\x00\x02\x01\x00\x00\x00\x00\x00\x00\x21"+short+"a/b")
	f(putLink(7, recordDigest, Link{MediaType: "a/b", Size: -1, Confirmed: true}),
		"\x00\x00\x00\x07"+short, "\x01\x01\xff\xff\xff\xff\xff\xff\xff\xffa/b")
	f(putList(listName{7, "k"}, List{Body: []byte("body"), CheckedAt: time.UnixMicro(258)}),
		"\x00\x00\x00\x07k", "\x01\x02\x01\x00\x00\x00\x00\x00\x00body")
	if sum := checksum([]byte("1234"), []byte("56789")); sum != 0xe3069283 {
		t.Errorf("checksum is %08x, which is no CRC-32C", sum)
	}
}

// TestRecordDamage changes every bit of every kind of record, and cuts them everywhere. Only the time and the body of a
// list may change unnoticed by what reads the index, and readList notices those.
func TestRecordDamage(t *testing.T) {
	for _, o := range sampleOperations() {
		for i := range 8 * (len(o.key) + len(o.value)) {
			key, record := bytes.Clone(o.key), bytes.Clone(o.value)
			if at := i / 8; at < len(key) {
				key[at] ^= 1 << (i % 8)
			} else {
				record[at-len(key)] ^= 1 << (i % 8)
			}
			if _, err := reread(o.bucket, key, record); !errors.Is(err, errDamaged) {
				t.Fatalf("%s with bit %d changed reads with %v", o.bucket.name(), i, err)
			}
		}
		for n := range o.value {
			if _, err := reread(o.bucket, o.key, o.value[:n]); !errors.Is(err, errDamaged) {
				t.Fatalf("%s of %d bytes reads with %v", o.bucket.name(), n, err)
			}
		}
	}
}

// FuzzRecords reads keys and records with a checksum that fits, so that the fuzzer comes past it. What can be read must
// be exactly what was written.
func FuzzRecords(f *testing.F) {
	for _, o := range sampleOperations() {
		f.Add(uint8(o.bucket), o.key, o.value[:len(o.value)-sumSize])
	}
	f.Add(uint8(tagsBucket), []byte{0, 0, 0, 1}, bytes.Repeat([]byte{1}, 18))
	f.Add(uint8(linksBucket), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, b uint8, key, unsealed []byte) {
		where := bucket(b % 4)
		if again, err := reread(where, key, unsealed); err == nil && !bytes.Equal(again.value, unsealed) {
			t.Fatalf("%s %x %x reads back as %x", where.name(), key, unsealed, again.value)
		}
		record := seal(key, bytes.Clone(unsealed))
		again, err := reread(where, key, record)
		if err == nil && (again.bucket != where || !bytes.Equal(again.key, key) || !bytes.Equal(again.value, record)) {
			t.Fatalf("%s %x %x reads back as %x %x", where.name(), key, record, again.key, again.value)
		}
		if err != nil && !errors.Is(err, errDamaged) {
			t.Fatalf("error is %v", err)
		}
	})
}
