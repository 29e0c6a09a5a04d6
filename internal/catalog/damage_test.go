package catalog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

// filled makes a catalog of several pages and returns its directory.
func filled(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	c := open(t, dir)
	links := make(map[oci.Digest]catalog.Link)
	for n := range 500 {
		links[numbered(n)] = catalog.Link{Size: int64(n)}
	}
	c.SetLinks(app, links)
	mustSetTag(t, c, debian, "latest", pointing(1))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDamagedFileIsSetAside(t *testing.T) {
	f := func(story string, damage func(content []byte) []byte) {
		t.Helper()
		t.Run(story, func(t *testing.T) {
			dir := filled(t)
			path := filepath.Join(dir, "catalog.db")
			content := damage(readCatalog(t, dir))
			writeCatalog(t, dir, content)

			var log bytes.Buffer
			c := openLogging(t, dir, &log)
			mustSetTag(t, c, debian, "stable", pointing(2))
			c = reopen(t, c, dir)
			wantTag(t, c, debian, "stable", pointing(2))

			aside, err := filepath.Glob(path + ".damaged-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside: %q, %v", aside, err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("what was set aside is not what was there (%v)", err)
			}
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), filepath.Base(aside[0])) {
				t.Errorf("log is %q", &log)
			}
		})
	}
	page := os.Getpagesize()
	f("something else", func([]byte) []byte { return []byte("this is not a catalog") })
	f("something else and long", func([]byte) []byte { return bytes.Repeat([]byte("text"), 1<<16) })
	f("zeroes", func(content []byte) []byte { return make([]byte, len(content)) })
	f("cut to half a page", func(content []byte) []byte { return content[:page/2] })
	f("cut after the first pages", func(content []byte) []byte { return content[:2*page] })
	f("both meta pages", func(content []byte) []byte {
		clear(content[:2*page])
		return content
	})
	f("every page but the meta pages", func(content []byte) []byte {
		for i := 2 * page; i < len(content); i++ {
			content[i] = 0xff
		}
		return content
	})
}

// TestEveryPageDamaged spoils one page after the other. Whatever that hits, the catalog opens, takes a tag, and says
// nothing that was never written.
func TestEveryPageDamaged(t *testing.T) {
	content, page := readCatalog(t, filled(t)), os.Getpagesize()
	for at := 0; at < len(content); at += page {
		damaged := bytes.Clone(content)
		copy(damaged[at:], bytes.Repeat([]byte{byte(at / page % 2 * 0xff)}, page)) // zeroes and ones in turn
		dir := t.TempDir()
		writeCatalog(t, dir, damaged)
		c := open(t, dir)
		checkNothingInvented(t, c)
		mustSetTag(t, c, debian, "stable", pointing(2))
		c = reopen(t, c, dir)
		checkNothingInvented(t, c)
		wantTag(t, c, debian, "stable", pointing(2))
	}
}

func checkNothingInvented(t *testing.T, c *catalog.Catalog) {
	t.Helper()
	if tag, ok := c.Tag(debian, "latest"); ok && tag.Descriptor != pointing(1).Descriptor {
		t.Fatalf("tag is %+v", tag)
	}
	for n := range 500 {
		wantLink(t, c, debian, numbered(n), nil)
		if l, ok := c.Link(app, numbered(n)); ok && l != (catalog.Link{Size: int64(n)}) {
			t.Fatalf("link is %+v", l)
		}
	}
}

// spoil changes records of a closed catalog.
func spoil(t *testing.T, dir string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "catalog.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// records returns what a bucket holds.
func records(t *testing.T, dir, bucket string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	spoil(t, dir, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(key, record []byte) error {
			all[string(key)] = bytes.Clone(record)
			return nil
		})
	})
	return all
}

func TestDamagedRecordIsRemovedAlone(t *testing.T) {
	dir := filled(t)
	spoil(t, dir, func(tx *bbolt.Tx) error {
		links := tx.Bucket([]byte("links"))
		key, record := links.Cursor().First()
		record = bytes.Clone(record)
		record[3] ^= 1
		if err := links.Put(bytes.Clone(key), record); err != nil {
			return err
		}
		// The highest number there is must not make the next one start over.
		return tx.Bucket([]byte("tags")).Put([]byte("\xff\xff\xff\xfft"), nil)
	})
	var log bytes.Buffer
	c := openLogging(t, dir, &log)
	if !strings.Contains(log.String(), "2 damaged records") {
		t.Errorf("log is %q", &log)
	}
	wantTag(t, c, debian, "latest", pointing(1))
	known, again := 0, make(map[oci.Digest]catalog.Link)
	for n := range 500 {
		if _, ok := c.Link(app, numbered(n)); ok {
			known++
		}
		again[numbered(n)] = catalog.Link{Size: int64(n), Confirmed: true}
	}
	if known != 499 {
		t.Errorf("%d links are left, want 499", known)
	}
	// What is learnt again in time goes with the commit that removes the damaged record of it.
	c.SetLinks(app, again)
	mustSetTag(t, c, oci.Repository{Registry: "quay.io", Name: "a/third"}, "latest", pointing(3))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if links, tags := len(records(t, dir, "links")), len(records(t, dir, "tags")); links != 500 || tags != 2 {
		t.Errorf("%d links and %d tags are left, want 500 and 2", links, tags)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "*damaged*")); len(aside) != 0 {
		t.Errorf("set aside: %q", aside)
	}
}

// TestDamagedBucketDoesNotTakeTheOthersAlong has a bucket whose records cannot be told from buckets.
func TestDamagedBucketDoesNotTakeTheOthersAlong(t *testing.T) {
	dir := filled(t)
	spoil(t, dir, func(tx *bbolt.Tx) error {
		_, err := tx.Bucket([]byte("tags")).CreateBucket([]byte("\x00"))
		return err
	})
	c := open(t, dir)
	for range 2 {
		for n := range 500 {
			wantLink(t, c, app, numbered(n), &catalog.Link{Size: int64(n)})
		}
		c = reopen(t, c, dir)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "catalog.db.damaged-*")); len(aside) != 1 {
		t.Errorf("set aside: %q", aside)
	}
}

// TestNumberOfLostRepositoryIsNotGivenOut loses the record of the repository with the highest number. Its links are still
// there, and must not become those of the next repository.
func TestNumberOfLostRepositoryIsNotGivenOut(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.SetLinks(app, map[oci.Digest]catalog.Link{numbered(1): {Size: 1, Confirmed: true}})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	spoil(t, dir, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("repositories")) })

	c = open(t, dir)
	mustSetTag(t, c, debian, "latest", pointing(2))
	wantLink(t, c, debian, numbered(1), nil)
	c = reopen(t, c, dir)
	wantLink(t, c, debian, numbered(1), nil)
	wantTag(t, c, debian, "latest", pointing(2))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// The links went with the first commit. Had that been lost, only another number would have kept them apart.
	for number := range records(t, dir, "repositories") {
		if number == "\x00\x00\x00\x01" {
			t.Error("the number was given out again")
		}
	}
	if left := records(t, dir, "links"); len(left) != 0 {
		t.Errorf("links are left: %x", left)
	}
}

func TestDamagedListIsAnError(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.SetList(debian, "tags", catalog.List{Body: []byte("a body that will change"), CheckedAt: noon})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	spoil(t, dir, func(tx *bbolt.Tx) error {
		lists := tx.Bucket([]byte("lists"))
		key, record := lists.Cursor().First()
		return lists.Put(bytes.Clone(key), bytes.Replace(record, []byte("body"), []byte("tale"), 1))
	})
	c = open(t, dir)
	if l, ok, err := c.List(debian, "tags"); err == nil || ok || l.Body != nil {
		t.Errorf("damaged list is %q, %v, %v", l.Body, ok, err)
	}
	c.SetList(debian, "tags", catalog.List{Body: []byte("another")})
	if l, ok, err := c.List(debian, "tags"); err != nil || !ok || string(l.Body) != "another" {
		t.Errorf("list is %q, %v, %v", l.Body, ok, err)
	}
}

// TestDamageWhileRunning spoils the file under a running catalog. Memory knows everything but the bodies of lists, and
// writes it to a new file.
func TestDamageWhileRunning(t *testing.T) {
	dir := filled(t)
	c := open(t, dir)
	c.SetList(debian, "old", catalog.List{Body: []byte("old")})
	mustSetTag(t, c, debian, "stable", pointing(2))

	file, err := os.OpenFile(filepath.Join(dir, "catalog.db"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := int64(os.Getpagesize())
	if _, err := file.WriteAt(bytes.Repeat([]byte{0xff}, 100*int(page)), 2*page); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	c.SetList(debian, "new", catalog.List{Body: []byte("new")})
	mustSetTag(t, c, debian, "after", pointing(3))
	check := func() {
		t.Helper()
		wantTag(t, c, debian, "latest", pointing(1))
		wantTag(t, c, debian, "stable", pointing(2))
		wantTag(t, c, debian, "after", pointing(3))
		for n := range 500 {
			wantLink(t, c, app, numbered(n), &catalog.Link{Size: int64(n)})
		}
		if l, ok, err := c.List(debian, "new"); err != nil || !ok || string(l.Body) != "new" {
			t.Fatalf("new list is %q, %v, %v", l.Body, ok, err)
		}
		if l, ok, err := c.List(debian, "old"); err != nil || ok {
			t.Fatalf("old list is %q, %v, %v", l.Body, ok, err)
		}
	}
	check()
	c = reopen(t, c, dir)
	check()
	if aside, _ := filepath.Glob(filepath.Join(dir, "catalog.db.damaged-*")); len(aside) != 1 {
		t.Errorf("set aside: %q", aside)
	}
}
