package node

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"mirror/internal/catalog"
)

// adviseOnDirectory adds to an error of opening the data directory what to do about it.
func adviseOnDirectory(dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, catalog.ErrInUse):
		return fmt.Errorf("%w: stop it, or set cache.dir to another directory", err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: set cache.dir to a directory", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: give %s and all in it to the user that runs the mirror, or set cache.dir to a directory of that user", err, dir)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: mount the file system of %s for writing, or set cache.dir to a directory on another", err, dir)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: free some space on the file system of %s, or set cache.dir to a directory on another", err, dir)
	}
	return err
}
