package catalog_test

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"mirror/internal/catalog"
	"mirror/internal/oci"
)

// childVariable names what this binary does instead of running tests, when a test starts it again as another process.
const childVariable = "CATALOG_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "write":
		childWrites(os.Args[1])
	case "open":
		childOpens(os.Args[1])
	}
}

var (
	debian = oci.Repository{Registry: "docker.io", Name: "library/debian"}
	app    = oci.Repository{Registry: "ghcr.io", Name: "org/app"}
	// noon is a time with more digits than a record keeps.
	noon = time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)
)

// numbered returns a digest that differs for every n.
func numbered(n int) oci.Digest { return oci.DigestOf(oci.SHA256, fmt.Append(nil, n)) }

// pointing returns a tag that points at the n-th digest.
func pointing(n int) catalog.Tag {
	return catalog.Tag{
		Descriptor: oci.Descriptor{MediaType: oci.MediaTypeImageIndex, Digest: numbered(n), Size: int64(n)},
		CheckedAt:  noon.Add(time.Duration(n) * time.Second),
	}
}

// open opens a catalog that closes itself at the end of the test.
func open(t testing.TB, dir string) *catalog.Catalog {
	t.Helper()
	return openLogging(t, dir, io.Discard)
}

func openLogging(t testing.TB, dir string, log io.Writer) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(catalog.Config{Dir: dir}, slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// reopen closes a catalog and opens it again.
func reopen(t testing.TB, c *catalog.Catalog, dir string) *catalog.Catalog {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

func mustSetTag(t testing.TB, c *catalog.Catalog, repo oci.Repository, tag string, to catalog.Tag) {
	t.Helper()
	if err := c.SetTag(repo, tag, to); err != nil {
		t.Fatal(err)
	}
}

// wantTag fails the test unless the tag is known as given, or unknown when want has no digest.
func wantTag(t testing.TB, c *catalog.Catalog, repo oci.Repository, tag string, want catalog.Tag) {
	t.Helper()
	got, ok := c.Tag(repo, tag)
	if ok == want.Descriptor.Digest.IsZero() || got.Descriptor != want.Descriptor {
		t.Fatalf("%s:%s is %+v (%v), want %+v", repo, tag, got.Descriptor, ok, want.Descriptor)
	}
	if ok && got.CheckedAt.UnixMicro() != want.CheckedAt.UnixMicro() {
		t.Fatalf("%s:%s was checked at %v, want %v", repo, tag, got.CheckedAt, want.CheckedAt)
	}
}

// wantLink fails the test unless the link is known as given, or unknown when want is nil.
func wantLink(t testing.TB, c *catalog.Catalog, repo oci.Repository, d oci.Digest, want *catalog.Link) {
	t.Helper()
	got, ok := c.Link(repo, d)
	if ok != (want != nil) || ok && got != *want {
		t.Fatalf("link of %s to %s is %+v (%v), want %+v", repo, d, got, ok, want)
	}
}
