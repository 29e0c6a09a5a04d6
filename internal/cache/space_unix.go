//go:build linux || darwin || freebsd

package cache

import "golang.org/x/sys/unix"

// spaceOf returns how many bytes the file system of dir has for this process, and how many in all.
func spaceOf(dir string) (free, all int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	//nolint:unconvert // the types of these fields differ between systems
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}
