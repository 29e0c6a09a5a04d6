package cache

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestShelfIsCleared: a file that is taken again and again stays, and one that nobody takes is closed before twice the time is over.
func TestShelfIsCleared(t *testing.T) {
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var s shelf
		wanted, unwanted := new(entry), new(entry)
		open := func(e *entry) *os.File {
			file, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.put(e, file); err != nil {
				t.Fatal(err)
			}
			return file
		}
		closed := func(file *os.File) bool {
			_, err := file.Stat()
			return err != nil
		}
		first, second := open(wanted), open(unwanted)
		for range 5 {
			time.Sleep(shelfTime - time.Second)
			if s.take(wanted) != first {
				t.Fatal("a file that was wanted is not there")
			}
			if err := s.put(wanted, first); err != nil {
				t.Fatal(err)
			}
		}
		if !closed(second) || closed(first) {
			t.Errorf("closed: the unwanted %v, the wanted %v", closed(second), closed(first))
		}
		time.Sleep(2 * shelfTime)
		if !closed(first) || len(s.files) > 0 || s.clearing {
			t.Errorf("%d files are left, clearing %v", len(s.files), s.clearing)
		}
		third := open(wanted) // it begins anew
		time.Sleep(shelfTime / 2)
		if closed(third) {
			t.Error("a file did not stay")
		}
		time.Sleep(2 * shelfTime)
		if !closed(third) {
			t.Error("a file stayed")
		}
	})
}
