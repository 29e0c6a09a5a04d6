package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mirror/internal/oci"
)

// walk calls visit for each name of complete content. Other names are left alone: they are not ours. It costs no system
// call for each file, because a million of them would be a minute of seeks on some disks.
func (k *disk) walk(visit func(oci.Digest) error) error {
	for _, alg := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
		for first := range 256 {
			if err := k.walkDir(alg, fmt.Sprintf("%02x", first), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// walkDir is walk for the digests of one algorithm with the same first byte. It reads all names before it visits the first,
// so that visit may remove files; there is no memory for anything but the names, because a million of each other thing
// would add up before the next garbage collection.
func (k *disk) walkDir(alg oci.Algorithm, first string, visit func(oci.Digest) error) error {
	names, err := readNames(filepath.Join(k.dir, blobsDir, alg.String(), first))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil // nothing has been stored there yet, or it is not ours
	}
	if err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	for _, name := range names {
		d, ok := digestOfName(alg, name)
		if !ok || !strings.HasPrefix(name, first) {
			continue
		}
		if err := visit(d); err != nil {
			return err
		}
	}
	return nil
}

// readNames returns the names in a directory, in no order.
func readNames(path string) ([]string, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}
