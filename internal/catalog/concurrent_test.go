package catalog_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

// TestConcurrentUse has writers that each own a tag, and readers that must never see a tag whose parts do not belong
// together. The race detector does the rest.
func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	const writers, rounds = 8, 25
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		writing.Go(func() { writeRounds(t, c, w, rounds) })
	}
	for range 2 {
		reading.Go(func() { readUntil(t, c, writers, done) })
	}
	writing.Wait()
	close(done)
	reading.Wait()

	c = reopen(t, c, dir)
	for w := range writers {
		want := pointing(rounds - 1)
		want.CheckedAt = want.CheckedAt.Add(time.Hour)
		wantTag(t, c, shared(w), fmt.Sprint("w", w), want)
		wantLink(t, c, shared(w), numbered(rounds-1), &catalog.Link{Size: rounds - 1, Confirmed: true})
		wantLink(t, c, shared(w), numbered(rounds-2), nil)
	}
}

// shared returns the repository of a writer: two writers have one.
func shared(w int) oci.Repository {
	return oci.Repository{Registry: "docker.io", Name: fmt.Sprint("r", w/2)}
}

func writeRounds(t *testing.T, c *catalog.Catalog, w, rounds int) {
	repo, tag := shared(w), fmt.Sprint("w", w)
	for n := range rounds {
		c.SetLinks(repo, map[oci.Digest]catalog.Link{numbered(n): {Size: int64(n), Confirmed: true}})
		if err := c.SetTag(repo, tag, pointing(n)); err != nil {
			t.Error(err)
			return
		}
		c.Touch(repo, tag, numbered(n), pointing(n).CheckedAt.Add(time.Hour))
		c.SetList(repo, tag, catalog.List{Body: fmt.Append(nil, n)})
		if n == rounds/2 {
			if err := c.DeleteTag(repo, tag); err != nil {
				t.Error(err)
			}
		}
	}
	// Two writers share the links, so they go only when both are done with them.
	if w%2 == 0 {
		return
	}
	for c.Tags(repo, "", 0); !finished(c, repo, rounds); {
		time.Sleep(time.Millisecond)
	}
	c.Unlink(repo, numbered(rounds-2))
}

// finished reports whether both writers of a repository have set their last tag.
func finished(c *catalog.Catalog, repo oci.Repository, rounds int) bool {
	tags := c.Tags(repo, "", 0)
	for _, tag := range tags {
		if known, _ := c.Tag(repo, tag); known.Descriptor.Digest != numbered(rounds-1) {
			return false
		}
	}
	return len(tags) == 2
}

func readUntil(t *testing.T, c *catalog.Catalog, writers int, done <-chan struct{}) {
	for w := 0; ; w = (w + 1) % writers {
		select {
		case <-done:
			return
		default:
		}
		tag, ok := c.Tag(shared(w), fmt.Sprint("w", w))
		if ok && tag.Descriptor.Digest != numbered(int(tag.Descriptor.Size)) {
			t.Errorf("tag is torn: %+v", tag)
		}
		if l, ok := c.Link(shared(w), numbered(w)); ok && l.Size != int64(w) {
			t.Errorf("link is torn: %+v", l)
		}
		if _, _, err := c.List(shared(w), fmt.Sprint("w", w)); err != nil {
			t.Error(err)
		}
		c.Repositories(numbered(w))
	}
}
