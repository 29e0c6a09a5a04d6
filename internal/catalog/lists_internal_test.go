package catalog

import (
	"fmt"
	"testing"
	"time"
)

// listed returns a catalog's lists with n lists of so many bytes, the first the oldest, as they are after a commit.
func listed(n, size int) *lists {
	ls := newLists()
	body := make([]byte, size)
	for i := range n {
		name := listName{1, fmt.Sprint(i)}
		ls.set(name, List{Body: body, CheckedAt: time.UnixMicro(int64(i))})
		taken, _ := ls.takeUnsaved()
		ls.saved(taken)
	}
	return ls
}

// wantSums fails the test unless the sums are those of the entries.
func wantSums(t *testing.T, ls *lists) {
	t.Helper()
	var bytes, held int64
	for _, entry := range ls.index {
		bytes += entry.size
		if entry.isHeld {
			held += entry.size
		}
	}
	if ls.bytes != bytes || ls.held != held {
		t.Fatalf("sums are %d and %d, want %d and %d", ls.bytes, ls.held, bytes, held)
	}
}

func TestOldestListsAreForgotten(t *testing.T) {
	f := func(fits, size int) {
		t.Helper()
		ls := listed(fits, size)
		wantSums(t, ls)
		if len(ls.index) != fits {
			t.Fatalf("%d lists of %d bytes are kept, want %d", len(ls.index), size, fits)
		}
		body := make([]byte, size)
		dropped := ls.set(listName{1, "new"}, List{Body: body, CheckedAt: time.UnixMicro(int64(fits))})
		wantSums(t, ls)
		if dropped < fits/10 || len(ls.index)+dropped != fits+1 {
			t.Fatalf("%d of %d lists were dropped, %d are left", dropped, fits+1, len(ls.index))
		}
		for i := range fits {
			if _, ok := ls.get(listName{1, fmt.Sprint(i)}); ok != (i >= dropped) {
				t.Fatalf("after dropping %d, the list %d is there: %v", dropped, i, ok)
			}
		}
		if _, operations := ls.takeUnsaved(); len(operations) != dropped+1 {
			t.Fatalf("%d operations for %d dropped lists and a new one", len(operations), dropped)
		}
	}
	f(maxLists, 1)
	f(maxListBytes/maxListBody, maxListBody)
}

func TestUnsavedListsAreBounded(t *testing.T) {
	ls := newLists()
	body := make([]byte, maxListBody)
	refused := 0
	for i := range 40 {
		refused += ls.set(listName{1, fmt.Sprint(i)}, List{Body: body})
	}
	wantSums(t, ls)
	if ls.held != maxHeldListBytes || refused != 8 {
		t.Errorf("%d bytes are held, %d lists were refused", ls.held, refused)
	}
	// A list that cannot be held does not leave its predecessor behind: that would be older than what the caller knows.
	name := listName{1, "0"}
	ls.set(name, List{Body: body[:1]})
	ls.set(listName{1, "filler"}, List{Body: body[:maxListBody-1]})
	if dropped := ls.set(name, List{Body: body}); dropped != 1 {
		t.Errorf("dropped %d", dropped)
	}
	if _, ok := ls.get(name); ok {
		t.Error("the predecessor is still there")
	}
	taken, _ := ls.takeUnsaved()
	ls.saved(taken)
	wantSums(t, ls)
	if ls.held != 0 {
		t.Errorf("%d bytes are held after a commit", ls.held)
	}
}

func TestListReplacedDuringCommitStaysHeld(t *testing.T) {
	ls := newLists()
	name := listName{1, "tags"}
	ls.set(name, List{Body: []byte("old")})
	taken, _ := ls.takeUnsaved()
	ls.set(name, List{Body: []byte("newer")})
	ls.saved(taken)
	wantSums(t, ls)
	if entry, ok := ls.get(name); !ok || string(entry.body) != "newer" {
		t.Fatalf("entry is %+v, %v", entry, ok)
	}
	if _, operations := ls.takeUnsaved(); len(operations) != 1 {
		t.Errorf("%d operations, want the newer one", len(operations))
	}
}
