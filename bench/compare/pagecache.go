package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// longFile is from which length on the order of a file's pages in memory is felt.
const longFile = 1 << 20

// readBack takes long files below dir out of the page cache, and reads them in again. The kernel sends a file by its pages, and how
// large the pieces of memory are in which they lie comes from how the file was written: between two copies of the same
// file, written by the same program, the rates of the same server differed by a tenth and more, for as long as they were
// in memory. Read back, all lie alike, as after a start of the machine.
func readBack(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // servers have files that come and go
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Size() < longFile {
			return nil //nolint:nilerr // it is gone
		}
		return readFileBack(path)
	})
}

func readFileBack(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := errors.Join(file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		return fmt.Errorf("take %s out of memory: %w", path, err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, make([]byte, longFile)); err != nil {
		return fmt.Errorf("read %s back: %w", path, err)
	}
	return nil
}
