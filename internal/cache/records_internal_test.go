package cache

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mirror/internal/oci"
)

func digestOf(text string) oci.Digest { return oci.DigestOf(oci.SHA256, []byte(text)) }

// loaded returns all records.
func loaded(t *testing.T, r *records) map[oci.Digest]record {
	t.Helper()
	all := make(map[oci.Digest]record)
	if err := r.load(func(rec record) { all[rec.digest] = rec }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	r, rebuild, err := openRecords(dir)
	if err != nil || !rebuild {
		t.Fatalf("new index: rebuild %v, error %v", rebuild, err)
	}
	one, two := record{digest: digestOf("one"), size: 1, stored: 10, use: FirstUse(10)}, record{digest: oci.DigestOf(oci.SHA512, nil), size: 1 << 40, stored: 20, use: FirstUse(20)}
	if err := r.put(one, two); err != nil {
		t.Fatal(err)
	}
	if err := r.touch(map[oci.Digest]Use{one.digest: FirstUse(10).Again(99), digestOf("removed meanwhile"): 5}); err != nil {
		t.Fatal(err)
	}
	one.use = FirstUse(10).Again(99)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	if err := r.put(one); err != ErrClosed {
		t.Errorf("put after close: %v, want ErrClosed", err)
	}

	r, rebuild, err = openRecords(dir)
	if err != nil || rebuild {
		t.Fatalf("old index: rebuild %v, error %v", rebuild, err)
	}
	if all := loaded(t, r); len(all) != 2 || all[one.digest] != one || all[two.digest] != two {
		t.Errorf("got %v, want %v and %v", all, one, two)
	}
	if err := r.remove([]oci.Digest{one.digest, digestOf("never there")}); err != nil {
		t.Error(err)
	}
	if all := loaded(t, r); len(all) != 1 {
		t.Errorf("got %v, want only %v", all, two)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

// TestRecordsAtOnce: changes of many goroutines share transactions, and each is answered.
func TestRecordsAtOnce(t *testing.T) {
	r, _, err := openRecords(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			rec := record{digest: digestOf(strings.Repeat("x", i)), size: int64(i)}
			if err := r.put(rec); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := r.remove([]oci.Digest{rec.digest}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if all := loaded(t, r); len(all) != 100 {
		t.Errorf("%d records, want 100", len(all))
	}
}

// TestRecordsAfterPanic: after bbolt has panicked nothing touches it any more, and nobody hangs.
func TestRecordsAfterPanic(t *testing.T) {
	r, _, err := openRecords(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db := r.db
	defer db.Close()
	if err := r.apply([]change{{bucket: []byte("no such bucket"), key: []byte("k")}}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v, want an error about damage", err)
	}
	if err := r.put(record{digest: digestOf("x")}); err == nil {
		t.Error("a put after the panic works")
	}
	if err := r.close(); err == nil {
		t.Error("close does not tell")
	}
}

// TestIndexInTrouble: an index that cannot be opened for a reason outside of it is left where it is.
func TestIndexInTrouble(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, indexFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openRecords(dir); err == nil || !strings.Contains(err.Error(), syscall.EISDIR.Error()) {
		t.Errorf("got %v, want %v", err, syscall.EISDIR)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("the directory has %d entries, want the one that was there", len(names))
	}
}

// TestFirstRecords: records of version 1 are read, without what they do not tell.
func TestFirstRecords(t *testing.T) {
	rec := record{digest: digestOf("x"), size: 5, stored: 6, stamp: 7, use: FirstUse(6)}
	value := encodeRecord(rec)[:firstSize]
	value[0] = firstVersion
	rec.stamp = 0
	if got, ok := decodeRecord(rec.digest.Binary(), value); !ok || got != rec {
		t.Errorf("got %+v, %v, want %+v", got, ok, rec)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(digestOf("x").Binary(), encodeRecord(record{size: 5, stored: 6, stamp: 7}))
	f.Add(digestOf("x").Binary(), bytes.Repeat([]byte{firstVersion}, firstSize))
	f.Add([]byte{}, []byte{})
	f.Add([]byte{1, 2, 3}, bytes.Repeat([]byte{0xff}, recordSize))
	f.Add(digestOf("x").Binary(), bytes.Repeat([]byte{recordVersion}, recordSize))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		rec, ok := decodeRecord(key, value)
		if !ok {
			return
		}
		if rec.size < 0 {
			t.Errorf("size %d", rec.size)
		}
		if !bytes.Equal(rec.digest.Binary(), key) || !bytes.Equal(encodeRecord(rec)[1:len(value)], value[1:]) {
			t.Errorf("%x %x does not survive: %+v", key, value, rec)
		}
	})
}

func FuzzDigestOfName(f *testing.F) {
	f.Add(digestOf("x").Encoded())
	f.Add(strings.Repeat("2", 128))
	f.Add(strings.Repeat("A", 64))
	f.Add("../x")
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		for _, alg := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
			if d, ok := digestOfName(alg, name); ok && (d.Algorithm() != alg || filepath.Base(blobPath("", d)) != name) {
				t.Errorf("%q is taken for the name of %v", name, d)
			}
		}
	})
}
