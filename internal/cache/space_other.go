//go:build !linux && !darwin && !freebsd

package cache

// spaceOf knows nothing here; the limit and the errors of the disk have to do.
func spaceOf(string) (free, all int64, err error) { return 0, 0, nil }
