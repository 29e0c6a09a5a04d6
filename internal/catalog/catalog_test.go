package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

func TestEmptyCatalogKnowsNothing(t *testing.T) {
	c := open(t, t.TempDir())
	wantTag(t, c, debian, "latest", catalog.Tag{})
	wantLink(t, c, debian, numbered(1), nil)
	if tags := c.Tags(debian, "", 10); len(tags) != 0 {
		t.Errorf("tags are %q", tags)
	}
	if _, ok, err := c.List(debian, "tags"); ok || err != nil {
		t.Errorf("list is there: %v, %v", ok, err)
	}
	if repositories := c.Repositories(numbered(1)); len(repositories) != 0 {
		t.Errorf("repositories are %v", repositories)
	}
	c.Touch(debian, "latest", numbered(1), noon)
	c.Unlink(debian, numbered(1))
	if err := c.DeleteTag(debian, "latest"); err != nil {
		t.Error(err)
	}
}

func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	c := open(t, dir)
	long := oci.DigestOf(oci.SHA512, []byte("long"))
	confirmed := catalog.Link{MediaType: oci.MediaTypeImageManifest, Size: 77, Confirmed: true}
	unknown := catalog.Link{Size: -1}

	mustSetTag(t, c, debian, "latest", pointing(1))
	mustSetTag(t, c, debian, "stable", pointing(2))
	mustSetTag(t, c, app, "latest", catalog.Tag{Descriptor: oci.Descriptor{Digest: long, Size: -1}})
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): confirmed, long: unknown})
	c.SetLinks(app, map[oci.Digest]catalog.Link{numbered(1): unknown, numbered(3): confirmed})
	c.Unlink(app, numbered(3))
	c.Touch(debian, "stable", numbered(2), noon.Add(time.Hour))
	c.SetList(app, "tags?n=1", catalog.List{Body: []byte(`["latest"]`), CheckedAt: noon})
	if err := c.DeleteTag(debian, "latest"); err != nil {
		t.Fatal(err)
	}

	check := func(c *catalog.Catalog) {
		t.Helper()
		touched := pointing(2)
		touched.CheckedAt = noon.Add(time.Hour)
		wantTag(t, c, debian, "latest", catalog.Tag{})
		wantTag(t, c, debian, "stable", touched)
		wantTag(t, c, app, "latest", catalog.Tag{Descriptor: oci.Descriptor{Digest: long, Size: -1}})
		wantLink(t, c, debian, numbered(1), &confirmed)
		wantLink(t, c, debian, long, &unknown)
		wantLink(t, c, app, numbered(1), &unknown)
		wantLink(t, c, app, numbered(3), nil)
		if list, ok, err := c.List(app, "tags?n=1"); err != nil || !ok || string(list.Body) != `["latest"]` || list.CheckedAt.UnixMicro() != noon.UnixMicro() {
			t.Fatalf("list is %q of %v, %v, %v", list.Body, list.CheckedAt, ok, err)
		}
		if got := c.Repositories(numbered(1)); !slices.Equal(got, []oci.Repository{debian, app}) {
			t.Fatalf("repositories are %v", got)
		}
	}
	check(c)
	for range 2 {
		c = reopen(t, c, dir)
		check(c)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory is %v, %v", info, err)
	}
}

func TestZeroCheckedAtSurvives(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	mustSetTag(t, c, debian, "latest", catalog.Tag{Descriptor: pointing(1).Descriptor})
	if tag, _ := reopen(t, c, dir).Tag(debian, "latest"); !tag.CheckedAt.IsZero() {
		t.Errorf("checked at %v", tag.CheckedAt)
	}
}

func TestSetTagRefuses(t *testing.T) {
	c := open(t, t.TempDir())
	for _, tag := range []string{"", ".hidden", "a/b", strings.Repeat("x", 1<<17)} {
		if err := c.SetTag(debian, tag, pointing(1)); err == nil || len(err.Error()) > 1000 {
			t.Errorf("tag %.20q gives %.200v", tag, err)
		}
		wantTag(t, c, debian, tag, catalog.Tag{})
	}
	if err := c.SetTag(debian, "latest", catalog.Tag{}); err == nil {
		t.Error("a tag without digest was accepted")
	}
}

func TestTouch(t *testing.T) {
	c := open(t, t.TempDir())
	want := pointing(1)
	mustSetTag(t, c, debian, "latest", want)
	f := func(tag string, d oci.Digest, at time.Time, moves bool) {
		t.Helper()
		c.Touch(debian, tag, d, at)
		if moves {
			want.CheckedAt = at
		}
		wantTag(t, c, debian, "latest", want)
	}
	f("latest", numbered(1), noon.Add(time.Minute), true)
	f("latest", numbered(1), noon.Add(30*time.Second), false) // an answer that was overtaken
	f("latest", numbered(2), noon.Add(time.Hour), false)      // the tag has moved
	f("stable", numbered(1), noon.Add(time.Hour), false)
	f("latest", numbered(1), noon.Add(time.Hour), true)
	wantTag(t, c, debian, "stable", catalog.Tag{})
}

func TestTags(t *testing.T) {
	c := open(t, t.TempDir())
	for i, tag := range []string{"b", "a", "B", "_", "1.10", "1.9", "c"} {
		mustSetTag(t, c, debian, tag, pointing(i))
	}
	mustSetTag(t, c, app, "other", pointing(9))
	f := func(after string, n int, want ...string) {
		t.Helper()
		if got := c.Tags(debian, after, n); !slices.Equal(got, want) {
			t.Fatalf("Tags(%q, %d) is %q, want %q", after, n, got, want)
		}
	}
	f("", 0, "1.10", "1.9", "B", "_", "a", "b", "c")
	f("", -1, "1.10", "1.9", "B", "_", "a", "b", "c")
	f("", 2, "1.10", "1.9")
	f("1.9", 2, "B", "_")
	f("2", 100, "B", "_", "a", "b", "c")
	f("b", 7, "c")
	f("c", 7)
}

func TestSetLinksMerges(t *testing.T) {
	f := func(story string, first, second, want catalog.Link) {
		t.Helper()
		dir := t.TempDir()
		c := open(t, dir)
		c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): first})
		c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): second})
		t.Log(story)
		wantLink(t, c, debian, numbered(1), &want)
		wantLink(t, reopen(t, c, dir), debian, numbered(1), &want)
	}
	f("what was unknown is learnt",
		catalog.Link{Size: -1}, catalog.Link{MediaType: "a/b", Size: 5}, catalog.Link{MediaType: "a/b", Size: 5})
	f("what was known is not lost",
		catalog.Link{MediaType: "a/b", Size: 5}, catalog.Link{Size: -1}, catalog.Link{MediaType: "a/b", Size: 5})
	f("a confirmation is not taken back",
		catalog.Link{Size: 5, Confirmed: true}, catalog.Link{Size: -1}, catalog.Link{Size: 5, Confirmed: true})
	f("a confirmation is added",
		catalog.Link{MediaType: "a/b", Size: 5}, catalog.Link{Size: -1, Confirmed: true}, catalog.Link{MediaType: "a/b", Size: 5, Confirmed: true})
	f("a confirmation corrects a claim",
		catalog.Link{MediaType: "a/b", Size: 5}, catalog.Link{MediaType: "c/d", Size: 6, Confirmed: true}, catalog.Link{MediaType: "c/d", Size: 6, Confirmed: true})
	f("a claim does not correct what is confirmed",
		catalog.Link{MediaType: "a/b", Size: 5, Confirmed: true}, catalog.Link{MediaType: "c/d", Size: 6}, catalog.Link{MediaType: "a/b", Size: 5, Confirmed: true})
	f("a claim adds to what is confirmed",
		catalog.Link{Size: -1, Confirmed: true}, catalog.Link{MediaType: "c/d", Size: 6}, catalog.Link{MediaType: "c/d", Size: 6, Confirmed: true})
	f("a newer claim replaces an older one",
		catalog.Link{MediaType: "a/b", Size: 5}, catalog.Link{MediaType: "c/d", Size: 6}, catalog.Link{MediaType: "c/d", Size: 6})
	f("every unknown size reads the same",
		catalog.Link{Size: -99}, catalog.Link{Size: -7}, catalog.Link{Size: -1})
}

func TestSetLinksIgnoresTheZeroDigest(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.SetLinks(debian, nil)
	c.SetLinks(debian, map[oci.Digest]catalog.Link{{}: {Size: 1}, numbered(1): {Size: 1}})
	c = reopen(t, c, dir)
	wantLink(t, c, debian, oci.Digest{}, nil)
	wantLink(t, c, debian, numbered(1), &catalog.Link{Size: 1})
}

func TestRepositoriesDoNotShareLinks(t *testing.T) {
	c := open(t, t.TempDir())
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): {Confirmed: true}})
	mustSetTag(t, c, app, "latest", pointing(1))
	wantLink(t, c, app, numbered(1), nil)
	for _, other := range []oci.Repository{{Registry: "docker.io", Name: "library/debia"}, {Registry: "docker.io", Name: "n"}, {Registry: "docker.iolibrary/debian"}, {}} {
		wantLink(t, c, other, numbered(1), nil)
	}
}

func TestTouchesAreWrittenWithTheNextCommit(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	mustSetTag(t, c, debian, "latest", pointing(1))
	c.Touch(debian, "latest", numbered(1), noon.Add(time.Hour))
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(7): {Size: 7}})
	mustSetTag(t, c, app, "latest", pointing(2))

	// What SetTag promises is on disk now, whatever happens to the process.
	other := open(t, copyOf(t, dir))
	tag, _ := other.Tag(debian, "latest")
	if !tag.CheckedAt.Equal(noon.Add(time.Hour).Truncate(time.Microsecond)) {
		t.Errorf("touch was not written: %v", tag.CheckedAt)
	}
	wantLink(t, other, debian, numbered(7), &catalog.Link{Size: 7})
	wantTag(t, other, app, "latest", pointing(2))
}

// copyOf copies a catalog that is open, as a crash would leave it behind, to a new directory.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	other := t.TempDir()
	writeCatalog(t, other, readCatalog(t, dir))
	return other
}

// readCatalog returns the content of a catalog's file without the empty pages at its end, of which there are many.
func readCatalog(t testing.TB, dir string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	used := len(bytes.TrimRight(content, "\x00"))
	return content[:(used+page-1)/page*page]
}

func writeCatalog(t testing.TB, dir string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "catalog.db"), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestClosedCatalog(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	mustSetTag(t, c, debian, "latest", pointing(1))
	c.SetList(debian, "tags", catalog.List{Body: []byte("[]")})
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantTag(t, c, debian, "latest", pointing(1))
	if err := c.SetTag(debian, "stable", pointing(2)); !errors.Is(err, catalog.ErrClosed) {
		t.Errorf("SetTag returns %v", err)
	}
	if err := c.DeleteTag(debian, "latest"); !errors.Is(err, catalog.ErrClosed) {
		t.Errorf("DeleteTag returns %v", err)
	}
	if _, _, err := c.List(debian, "tags"); !errors.Is(err, catalog.ErrClosed) {
		t.Errorf("List returns %v", err)
	}
	c.Touch(debian, "stable", numbered(2), noon.Add(time.Hour))
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): {}})
	c.SetList(debian, "more", catalog.List{})

	c = open(t, dir)
	wantTag(t, c, debian, "latest", pointing(1))
	wantTag(t, c, debian, "stable", catalog.Tag{})
	wantLink(t, c, debian, numbered(1), nil)
}

func TestOpenRefusesAnUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	occupied := t.TempDir()
	if err := os.Mkdir(filepath.Join(occupied, "catalog.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, occupied} {
		c, err := catalog.Open(catalog.Config{Dir: dir}, slog.New(slog.DiscardHandler), nil)
		if err == nil || errors.Is(err, catalog.ErrInUse) {
			t.Errorf("Open(%s) returns %v, %v", dir, c, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	c, err := catalog.Open(catalog.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	mustSetTag(t, c, debian, "latest", pointing(1))
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): {}, numbered(2): {}, oci.DigestOf(oci.SHA512, nil): {}})
	c.SetList(app, "tags", catalog.List{})
	c.SetList(app, "tags", catalog.List{Body: make([]byte, 1<<20+1)})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	got := make(map[string]float64)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			got[family.GetName()] += metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"mirror_catalog_repositories":        2,
		"mirror_catalog_tags":                1,
		"mirror_catalog_links":               3,
		"mirror_catalog_lists":               1,
		"mirror_catalog_lists_dropped_total": 1,
		"mirror_catalog_damaged_total":       0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got["mirror_catalog_commits_total"] < 1 {
		t.Errorf("commits are %v", got["mirror_catalog_commits_total"])
	}
}

func TestListIsReplaced(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	for i := range 3 {
		body := fmt.Append(nil, "body ", i)
		c.SetList(debian, "tags", catalog.List{Body: body, CheckedAt: noon.Add(time.Duration(i) * time.Second)})
		mustSetTag(t, c, debian, "latest", pointing(i)) // the body is on disk afterwards, and read from there
		if list, ok, err := c.List(debian, "tags"); err != nil || !ok || !bytes.Equal(list.Body, body) {
			t.Fatalf("list is %q, %v, %v", list.Body, ok, err)
		}
	}
	for _, key := range []string{"", "tag", "tags?n=1"} {
		if _, ok, err := c.List(debian, key); ok || err != nil {
			t.Errorf("list %q is there: %v, %v", key, ok, err)
		}
	}
	if _, ok, _ := c.List(app, "tags"); ok {
		t.Error("another repository has the list")
	}
	c.SetList(debian, "tags", catalog.List{})
	if list, ok, err := reopen(t, c, dir).List(debian, "tags"); err != nil || !ok || len(list.Body) != 0 || !list.CheckedAt.IsZero() {
		t.Errorf("empty list is %q of %v, %v, %v", list.Body, list.CheckedAt, ok, err)
	}
}
