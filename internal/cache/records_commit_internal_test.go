package cache

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"mirror/internal/oci"
)

// TestIndexAtEachPointOfACommit: bbolt writes the pages of a transaction in order, and then one of its two meta pages.
// Wherever a crash stops that, the next start finds the records of before, and with the whole meta page those of after;
// nothing is rebuilt.
func TestIndexAtEachPointOfACommit(t *testing.T) {
	before, after, recordsBefore, recordsAfter := twoStates(t)
	pages := differing(before, after)
	if len(pages) < 4 {
		t.Fatalf("the transaction has changed pages %v, want some", pages)
	}
	state := bytes.Clone(before)
	state = append(state, make([]byte, max(0, len(after)-len(before)))...)
	var meta []int
	for _, page := range pages {
		if page < 2*os.Getpagesize() {
			meta = append(meta, page)
			continue
		}
		wantRecords(t, fmt.Sprint("before page ", page), state, recordsBefore)
		copyPage(state, after, page, os.Getpagesize())
	}
	if len(meta) != 1 {
		t.Fatalf("the transaction has changed the meta pages %v, want one", meta)
	}
	wantRecords(t, "before the meta page", state, recordsBefore)
	copyPage(state, after, meta[0], 64)
	wantRecords(t, "with a torn meta page", state, recordsBefore)
	copyPage(state, after, meta[0], os.Getpagesize())
	wantRecords(t, "at the end", state, recordsAfter)
}

func copyPage(to, from []byte, at, n int) { copy(to[at:at+n], from[at:]) }

// twoStates returns the index file before and after a transaction, with the records of both.
func twoStates(t *testing.T) (before, after []byte, recordsBefore, recordsAfter map[oci.Digest]record) {
	t.Helper()
	dir := t.TempDir()
	r, _, err := openRecords(dir)
	if err != nil {
		t.Fatal(err)
	}
	var changes []change
	for i := range 600 {
		rec := record{digest: digestOf(fmt.Sprint(i)), size: int64(i), stored: 1, use: FirstUse(1)}
		if i < 500 {
			err = r.put(rec)
		}
		if err != nil {
			t.Fatal(err)
		}
		key := rec.digest.Binary()
		switch {
		case i >= 500:
			changes = append(changes, change{bucket: blobsBucket, key: key, value: encodeRecord(rec)})
		case i%7 == 0:
			changes = append(changes, change{bucket: blobsBucket, key: key})
		}
		if i == 499 {
			before, recordsBefore = fileOf(t, dir), loaded(t, r)
		}
	}
	if err := r.apply(changes); err != nil {
		t.Fatal(err)
	}
	after, recordsAfter = fileOf(t, dir), loaded(t, r)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	return before, after, recordsBefore, recordsAfter
}

func fileOf(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// differing returns the offsets of the pages in which two states of a file differ.
func differing(before, after []byte) []int {
	var pages []int
	for at := 0; at < len(after); at += os.Getpagesize() {
		end := min(at+os.Getpagesize(), len(after))
		if at >= len(before) || !bytes.Equal(before[at:min(end, len(before))], after[at:end]) {
			pages = append(pages, at)
		}
	}
	return pages
}

// wantRecords fails the test unless a start finds these records in an index file of that state.
func wantRecords(t *testing.T, when string, state []byte, want map[oci.Digest]record) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, indexFile), state, 0o600); err != nil {
		t.Fatal(err)
	}
	r, rebuild, err := openRecords(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := loaded(t, r); rebuild || !maps.Equal(got, want) {
		t.Errorf("%s: %d records, rebuild: %v, want the %d of one of the states", when, len(got), rebuild, len(want))
	}
	if err := r.put(record{digest: digestOf("new"), size: 1}); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}
