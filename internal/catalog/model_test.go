package catalog_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

// model is a catalog that is obviously right: four maps.
type model struct {
	c     *catalog.Catalog
	dir   string
	tags  map[tagName]catalog.Tag
	links map[linkName]catalog.Link
	lists map[tagName]string
}

// tagName names a tag, or a list.
type tagName struct {
	repo oci.Repository
	name string
}

type linkName struct {
	repo   oci.Repository
	digest oci.Digest
}

var (
	drawRepository = rapid.SampledFrom([]oci.Repository{debian, app, {Registry: "docker.io", Name: "library/debia"}})
	drawTag        = rapid.SampledFrom([]string{"a", "b", "latest", "latest-1", "v1.0"})
	drawNumber     = rapid.IntRange(0, 5)
	drawLink       = rapid.Custom(func(t *rapid.T) catalog.Link {
		return catalog.Link{
			MediaType: rapid.SampledFrom([]string{"", "a/b", "c/d"}).Draw(t, "type"),
			Size:      rapid.Int64Range(-1, 2).Draw(t, "size"),
			Confirmed: rapid.Bool().Draw(t, "confirmed"),
		}
	})
)

// drawDigest returns one of a few digests, of both algorithms.
func drawDigest(t *rapid.T) oci.Digest {
	n := drawNumber.Draw(t, "digest")
	if n == 0 {
		return oci.DigestOf(oci.SHA512, nil)
	}
	return numbered(n)
}

// TestModel compares a catalog with the model after every one of many random operations, among them restarts. A failure
// prints the seed and the shortest sequence of operations that fails.
func TestModel(t *testing.T) {
	// Every sequence syncs to disk dozens of times, so there are fewer of them unless the flag says how many.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		m := &model{dir: dir, c: open(t, dir)}
		m.tags, m.links, m.lists = map[tagName]catalog.Tag{}, map[linkName]catalog.Link{}, map[tagName]string{}
		defer func() { _ = m.c.Close() }() // not at the end of the test, which holds a hundred of them
		rt.Repeat(map[string]func(*rapid.T){
			"":          m.check,
			"SetTag":    m.setTag,
			"Touch":     m.touch,
			"DeleteTag": m.deleteTag,
			"SetLinks":  m.setLinks,
			"Unlink":    m.unlink,
			"SetList":   m.setList,
			"Remove":    m.remove,
			"Prune":     m.prune,
			"Reopen":    func(*rapid.T) { m.c = reopen(t, m.c, m.dir) },
			"Crash":     func(*rapid.T) { m.crash(t) },
		})
	})
}

func (m *model) setTag(t *rapid.T) {
	repo, tag := drawRepository.Draw(t, "repository"), drawTag.Draw(t, "tag")
	to := pointing(drawNumber.Draw(t, "to"))
	to.Descriptor.Digest = drawDigest(t)
	if err := m.c.SetTag(repo, tag, to); err != nil {
		t.Fatal(err)
	}
	m.tags[tagName{repo, tag}] = to
}

func (m *model) touch(t *rapid.T) {
	repo, tag, d := drawRepository.Draw(t, "repository"), drawTag.Draw(t, "tag"), drawDigest(t)
	at := noon.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "seconds")) * time.Second)
	m.c.Touch(repo, tag, d, at)
	known, ok := m.tags[tagName{repo, tag}]
	if ok && known.Descriptor.Digest == d && at.After(known.CheckedAt) {
		known.CheckedAt = at
		m.tags[tagName{repo, tag}] = known
	}
}

func (m *model) deleteTag(t *rapid.T) {
	repo, tag := drawRepository.Draw(t, "repository"), drawTag.Draw(t, "tag")
	if err := m.c.DeleteTag(repo, tag); err != nil {
		t.Fatal(err)
	}
	delete(m.tags, tagName{repo, tag})
}

func (m *model) setLinks(t *rapid.T) {
	repo := drawRepository.Draw(t, "repository")
	news := make(map[oci.Digest]catalog.Link)
	for range rapid.IntRange(0, 4).Draw(t, "count") {
		news[drawDigest(t)] = drawLink.Draw(t, "link")
	}
	m.c.SetLinks(repo, news)
	for d, l := range news {
		if old, ok := m.links[linkName{repo, d}]; ok {
			l = merged(old, l)
		}
		m.links[linkName{repo, d}] = l
	}
}

// merged says in other words than the catalog what is known after old and news.
func merged(old, news catalog.Link) catalog.Link {
	known := old
	overrules := news.Confirmed || !old.Confirmed
	if news.Size >= 0 && (overrules || old.Size < 0) {
		known.Size = news.Size
	}
	if news.MediaType != "" && (overrules || old.MediaType == "") {
		known.MediaType = news.MediaType
	}
	known.Confirmed = old.Confirmed || news.Confirmed
	return known
}

func (m *model) unlink(t *rapid.T) {
	repo, d := drawRepository.Draw(t, "repository"), drawDigest(t)
	m.c.Unlink(repo, d)
	delete(m.links, linkName{repo, d})
}

func (m *model) setList(t *rapid.T) {
	repo, key := drawRepository.Draw(t, "repository"), drawTag.Draw(t, "key")
	body := rapid.StringN(0, 20, 40).Draw(t, "body")
	m.c.SetList(repo, key, catalog.List{Body: []byte(body), CheckedAt: noon})
	m.lists[tagName{repo, key}] = body
}

func (m *model) remove(t *rapid.T) {
	repo := drawRepository.Draw(t, "repository")
	if err := m.c.RemoveRepository(repo); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(m.tags, func(name tagName, _ catalog.Tag) bool { return name.repo == repo })
	maps.DeleteFunc(m.links, func(name linkName, _ catalog.Link) bool { return name.repo == repo })
	maps.DeleteFunc(m.lists, func(name tagName, _ string) bool { return name.repo == repo })
}

// prune drops the links of one digest that is not held any more.
func (m *model) prune(t *rapid.T) {
	repo, d := drawRepository.Draw(t, "repository"), drawDigest(t)
	for range 2 { // the first call marks
		m.c.Prune(repo, 0, func(other oci.Digest) bool { return other != d })
	}
	delete(m.links, linkName{repo, d})
}

// crash goes on with the file as a killed process would leave it after its last SetTag.
func (m *model) crash(t *testing.T) {
	t.Helper()
	mark := pointing(1)
	mustSetTag(t, m.c, debian, "mark", mark)
	m.tags[tagName{debian, "mark"}] = mark
	m.dir = copyOf(t, m.dir)
	if err := m.c.Close(); err != nil {
		t.Fatal(err)
	}
	m.c = open(t, m.dir)
}

func (m *model) check(t *rapid.T) {
	m.checkTags(t)
	m.checkLinks(t)
	for name, body := range m.lists {
		if l, ok, err := m.c.List(name.repo, name.name); err != nil || !ok || string(l.Body) != body {
			t.Fatalf("list %v is %q, %v, %v; want %q", name, l.Body, ok, err, body)
		}
	}
}

func (m *model) checkTags(t *rapid.T) {
	names := make(map[oci.Repository][]string)
	for name, want := range m.tags {
		names[name.repo] = append(names[name.repo], name.name)
		got, ok := m.c.Tag(name.repo, name.name)
		if !ok || got.Descriptor != want.Descriptor || got.CheckedAt.UnixMicro() != want.CheckedAt.UnixMicro() {
			t.Fatalf("tag %v is %+v, %v; want %+v", name, got, ok, want)
		}
	}
	for _, repo := range []oci.Repository{debian, app} {
		if got, want := m.c.Tags(repo, "", 0), slices.Sorted(slices.Values(names[repo])); !slices.Equal(got, want) {
			t.Fatalf("tags of %s are %q, want %q", repo, got, want)
		}
	}
}

func (m *model) checkLinks(t *rapid.T) {
	links := make(map[linkName]catalog.Link)
	for n := range 6 {
		d := numbered(n)
		if n == 0 {
			d = oci.DigestOf(oci.SHA512, nil)
		}
		for _, repo := range m.c.Repositories(d) {
			links[linkName{repo, d}], _ = m.c.Link(repo, d)
		}
	}
	if !maps.Equal(links, m.links) {
		t.Fatalf("links are\n%s\nwant\n%s", printed(links), printed(m.links))
	}
}

func printed(links map[linkName]catalog.Link) (text string) {
	for name, l := range links {
		text += fmt.Sprintf("%s %s %+v\n", name.repo, name.digest, l)
	}
	return text
}
