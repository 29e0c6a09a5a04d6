package catalog_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

func nothingHeld(oci.Digest) bool { return false }

func TestRemoveRepository(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	for _, repo := range []oci.Repository{debian, app} {
		mustSetTag(t, c, repo, "latest", pointing(1))
		c.SetLinks(repo, map[oci.Digest]catalog.Link{numbered(1): {Size: 1}, numbered(2): {Size: 2}})
		c.SetList(repo, "tags", catalog.List{Body: []byte("[]"), CheckedAt: noon})
	}
	for range 2 { // the second time there is nothing to remove
		if err := c.RemoveRepository(debian); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		wantTag(t, c, debian, "latest", catalog.Tag{})
		wantLink(t, c, debian, numbered(1), nil)
		if _, ok, err := c.List(debian, "tags"); ok || err != nil {
			t.Errorf("the list is there: %v, %v", ok, err)
		}
		if got := c.All(); !slices.Equal(got, []oci.Repository{app}) || c.Knows(debian) {
			t.Errorf("repositories are %v, want %s alone", got, app)
		}
		wantTag(t, c, app, "latest", pointing(1))
		wantLink(t, c, app, numbered(2), &catalog.Link{Size: 2})
		c = reopen(t, c, dir)
	}
}

// TestRepositoryComesBack names a repository again that was removed: it gets nothing of what the old one had.
func TestRepositoryComesBack(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): {Size: 1}})
	if err := c.RemoveRepository(debian); err != nil {
		t.Fatal(err)
	}
	mustSetTag(t, c, debian, "latest", pointing(2))
	for range 2 {
		wantLink(t, c, debian, numbered(1), nil)
		wantTag(t, c, debian, "latest", pointing(2))
		c = reopen(t, c, dir)
	}
}

// TestRemoveRepositoryWhileItIsUsed changes a repository that is removed again and again. What was waited for after the
// last removal is there.
func TestRemoveRepositoryWhileItIsUsed(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			for i := range 25 {
				c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(n): {Size: int64(i)}})
				c.SetList(debian, fmt.Sprint(n), catalog.List{CheckedAt: noon})
				if err := c.SetTag(debian, fmt.Sprint(n), pointing(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if err := c.RemoveRepository(debian); err != nil {
			t.Error(err)
		}
	}
	writers.Wait()
	if err := c.RemoveRepository(debian); err != nil {
		t.Fatal(err)
	}
	mustSetTag(t, c, debian, "last", pointing(1))
	for range 2 {
		if got := c.Tags(debian, "", 0); !slices.Equal(got, []string{"last"}) || len(c.Links(debian)) != 0 {
			t.Errorf("tags are %q and links %v, want one tag", got, c.Links(debian))
		}
		c = reopen(t, c, dir)
	}
}

func TestPrune(t *testing.T) {
	const patience = 48 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		c := open(t, t.TempDir())
		c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): {Size: 1}, numbered(2): {Size: 2}, numbered(3): {Size: 3}})
		held := map[oci.Digest]bool{numbered(1): true}
		f := func(after time.Duration, wantDropped int, wantLeft ...oci.Digest) {
			t.Helper()
			time.Sleep(after)
			if got := c.Prune(debian, patience, func(d oci.Digest) bool { return held[d] }); got != wantDropped {
				t.Errorf("dropped %d links, want %d", got, wantDropped)
			}
			for n := 1; n <= 3; n++ {
				if _, ok := c.Link(debian, numbered(n)); ok != slices.Contains(wantLeft, numbered(n)) {
					t.Errorf("link %d is there: %v", n, ok)
				}
			}
		}
		f(0, 0, numbered(1), numbered(2), numbered(3))
		c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(3): {Size: 3}}) // says nothing new, but somebody cares
		f(47*time.Hour, 0, numbered(1), numbered(2), numbered(3))
		f(time.Hour, 1, numbered(1), numbered(3))
		held[numbered(3)] = true
		f(time.Hour, 0, numbered(1), numbered(3))
		held[numbered(3)] = false
		f(47*time.Hour, 0, numbered(1), numbered(3))
		f(48*time.Hour, 1, numbered(1))
		held[numbered(1)] = false
		f(0, 0, numbered(1))
		f(patience, 1)
		if c.Knows(debian) {
			t.Error("a repository without anything is still known")
		}
	})
}

// TestPruneIsDurable checks that a pruned link and an emptied repository stay away over a restart, and that neighbours
// stay.
func TestPruneIsDurable(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.SetLinks(debian, map[oci.Digest]catalog.Link{numbered(1): {Size: 1}})
	c.SetLinks(app, map[oci.Digest]catalog.Link{numbered(1): {Size: 1}})
	mustSetTag(t, c, app, "latest", pointing(1))
	for _, repo := range []oci.Repository{debian, app} {
		c.Prune(repo, 0, nothingHeld) // marks
		if got := c.Prune(repo, 0, nothingHeld); got != 1 {
			t.Errorf("%s: dropped %d links, want 1", repo, got)
		}
	}
	c = reopen(t, c, dir)
	if got := c.All(); !slices.Equal(got, []oci.Repository{app}) || len(c.Links(app)) != 0 {
		t.Errorf("known are %v with links %v, want %s without any", got, c.Links(app), app)
	}
	wantTag(t, c, app, "latest", pointing(1))
}

func TestPruneKeepsARepositoryWithLists(t *testing.T) {
	c := open(t, t.TempDir())
	c.SetList(debian, "tags", catalog.List{CheckedAt: noon})
	if c.Prune(debian, 0, nothingHeld); !c.Knows(debian) {
		t.Error("a repository with a list was forgotten")
	}
	if got := c.Prune(app, 0, nothingHeld); got != 0 || c.Knows(app) {
		t.Errorf("dropped %d links of a repository that nobody knows", got)
	}
}

func TestHolders(t *testing.T) {
	c := open(t, t.TempDir())
	links := make(map[oci.Digest]catalog.Link)
	for n := range 10 {
		links[numbered(n)] = catalog.Link{Size: int64(n)}
	}
	c.SetLinks(debian, links)
	c.SetLinks(app, map[oci.Digest]catalog.Link{numbered(3): {Size: 3}})
	if got := c.Links(debian); !maps.Equal(got, links) {
		t.Errorf("links are %v, want %v", got, links)
	}
	both, one := []oci.Repository{debian, app}, []oci.Repository{debian}
	f := func(want map[oci.Digest][]oci.Repository) {
		t.Helper()
		got := c.Holders(slices.Collect(maps.Keys(want)))
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	f(map[oci.Digest][]oci.Repository{})
	f(map[oci.Digest][]oci.Repository{numbered(3): both, numbered(4): one, numbered(99): nil})
	many := map[oci.Digest][]oci.Repository{}
	for n := range 20 {
		many[numbered(n)] = nil
		if n < 10 {
			many[numbered(n)] = one
		}
	}
	many[numbered(3)] = both
	f(many)
}
