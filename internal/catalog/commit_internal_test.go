package catalog

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bbolterrors "go.etcd.io/bbolt/errors"

	"mirror/internal/oci"
)

// logBuffer holds log lines that a test reads while the committer writes.
type logBuffer struct {
	mu    sync.Mutex // guards lines
	lines bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}

// openInternal opens a catalog that closes itself at the end of the test.
func openInternal(t *testing.T, dir string) (*Catalog, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	c, err := Open(Config{Dir: dir}, slog.New(slog.NewTextHandler(log, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, log
}

func sampleTag(size int64) Tag {
	return Tag{Descriptor: oci.Descriptor{MediaType: "a/b", Digest: recordDigest, Size: size}, CheckedAt: recordTime}
}

// manyLinks are more than fit into the smallest file.
func manyLinks(t *testing.T) map[oci.Digest]Link {
	t.Helper()
	links := make(map[oci.Digest]Link)
	for i := range 1 << 14 {
		links[oci.DigestOf(oci.SHA256, []byte{byte(i), byte(i >> 8)})] = Link{Size: int64(i)}
	}
	return links
}

// limitFile stops the catalog's file from growing beyond so many bytes; zero lifts the limit. The committer must be idle
// meanwhile, which only a synctest bubble can tell; it takes the queue's lock before it writes again.
func limitFile(c *Catalog, size int) {
	synctest.Wait()
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.store.Load().db.MaxSize = size
}

// TestFullDisk lets no write succeed for a while. Nothing is lost by that, and it is said once.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, log := openInternal(t, dir)
		if err := c.SetTag(recordName, "before", sampleTag(1)); err != nil {
			t.Fatal(err)
		}
		limitFile(c, 1)
		c.SetLinks(recordName, manyLinks(t)) // nobody waits for that failure, so it is logged;
		time.Sleep(3 * flushInterval)        // trying again fails again, and is logged once a minute,
		for range 3 {
			err := c.SetTag(recordName, "during", sampleTag(2)) // but not when somebody is told
			if !errors.Is(err, bbolterrors.ErrMaxSizeReached) {
				t.Errorf("SetTag on a full disk returns %v", err)
			}
		}
		if tag, ok := c.Tag(recordName, "during"); !ok || tag.Descriptor.Size != 2 {
			t.Errorf("memory holds %+v, %v", tag, ok)
		}
		limitFile(c, 0)
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d errors are logged:\n%s", n, log)
		}
		time.Sleep(flushInterval + time.Second) // without any further change
		synctest.Wait()
		if n := strings.Count(log.String(), "written again"); n != 1 {
			t.Errorf("the end is logged %d times:\n%s", n, log)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})

	c, _ := openInternal(t, dir)
	for tag, size := range map[string]int64{"before": 1, "during": 2} {
		if got, ok := c.Tag(recordName, tag); !ok || got.Descriptor.Size != size {
			t.Errorf("tag %s is %+v, %v", tag, got, ok)
		}
	}
	for d, want := range manyLinks(t) {
		if got, ok := c.Link(recordName, d); !ok || got != want {
			t.Fatalf("link is %+v, %v; want %+v", got, ok, want)
		}
	}
}

func TestCloseReportsWhatCouldNotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := openInternal(t, t.TempDir())
		limitFile(c, 1)
		c.SetLinks(recordName, manyLinks(t))
		for range 2 {
			if err := c.Close(); !errors.Is(err, bbolterrors.ErrMaxSizeReached) {
				t.Errorf("Close returns %v", err)
			}
		}
	})
}

// TestTouchIsWrittenInTime reads the file as another process would find it after a crash.
func TestTouchIsWrittenInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, _ := openInternal(t, dir)
		if err := c.SetTag(recordName, "latest", sampleTag(1)); err != nil {
			t.Fatal(err)
		}
		later := recordTime.Add(time.Hour)
		c.Touch(recordName, "latest", recordDigest, later)
		synctest.Wait()
		if got := checkedOnDisk(t, c); !got.Equal(recordTime) {
			t.Errorf("touch was written at once: %v", got)
		}
		time.Sleep(flushInterval)
		synctest.Wait()
		if got := checkedOnDisk(t, c); !got.Equal(later) {
			t.Errorf("touch was not written after %v: %v", flushInterval, got)
		}
	})
}

// checkedOnDisk returns when the only tag in the file was checked.
func checkedOnDisk(t *testing.T, c *Catalog) (at time.Time) {
	t.Helper()
	err := c.store.Load().each(tagsBucket, func(key, record []byte) {
		_, _, tag, err := readTag(key, record)
		if err != nil {
			t.Error(err)
		}
		at = tag.CheckedAt
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestNewFileCannotBeCreated has damage and, for a while, no way to begin a new file.
func TestNewFileCannotBeCreated(t *testing.T) {
	parent := t.TempDir()
	dir, hidden := filepath.Join(parent, "dir"), filepath.Join(parent, "hidden")
	c, log := openInternal(t, dir)
	if err := c.SetTag(recordName, "before", sampleTag(1)); err != nil {
		t.Fatal(err)
	}
	file := c.store.Load().file
	if _, err := file.WriteAt(bytes.Repeat([]byte{0xff}, 1<<16), 2*int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, hidden); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.SetTag(recordName, "during", sampleTag(2)); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errDamaged) {
			t.Errorf("SetTag returns %v", err)
		}
	}
	if err := os.Rename(hidden, dir); err != nil {
		t.Fatal(err)
	}
	if err := c.SetTag(recordName, "after", sampleTag(3)); err != nil {
		t.Fatalf("SetTag returns %v\n%s", err, log)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c, _ = openInternal(t, dir)
	for tag, size := range map[string]int64{"before": 1, "during": 2, "after": 3} {
		if got, ok := c.Tag(recordName, tag); !ok || got.Descriptor.Size != size {
			t.Errorf("tag %s is %+v, %v", tag, got, ok)
		}
	}
}

// TestReplacementIsRare damages a file twice. The second time is too soon: a disk that does this would fill with files set
// aside, so the catalog stays in memory.
func TestReplacementIsRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c, _ := openInternal(t, dir)
		if err := c.SetTag(recordName, "latest", sampleTag(1)); err != nil {
			t.Fatal(err)
		}
		for round, want := range []error{nil, errDamaged, errDamaged} {
			breakStore(c)
			if err := c.SetTag(recordName, "latest", sampleTag(int64(round))); !errors.Is(err, want) {
				t.Errorf("SetTag %d returns %v, want %v", round, err, want)
			}
		}
		time.Sleep(replaceInterval)
		if err := c.SetTag(recordName, "latest", sampleTag(9)); err != nil {
			t.Errorf("SetTag after an hour returns %v", err)
		}
		if aside, _ := filepath.Glob(filepath.Join(dir, "*"+damagedSuffix+"*")); len(aside) != 2 {
			t.Errorf("set aside: %q", aside)
		}
	})
}

// breakStore makes the next write fail as if it met damage.
func breakStore(c *Catalog) {
	synctest.Wait()
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.store.Load().broken = true
}

// TestFileReplacedWhileWaiting opens a file that has become another one by the time its lock is free.
func TestFileReplacedWhileWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileName)
	s, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.classify(nil, path); err != nil {
		t.Errorf("the file itself gives %v", err)
	}
	if _, err := setAside(path); err != nil {
		t.Fatal(err)
	}
	if err := s.classify(nil, path); !errors.Is(err, ErrInUse) {
		t.Errorf("a file that is gone gives %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.classify(errDamaged, path); !errors.Is(err, ErrInUse) {
		t.Errorf("another file gives %v", err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
