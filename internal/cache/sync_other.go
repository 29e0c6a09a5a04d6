//go:build !linux

package cache

import "errors"

// syncAll cannot be done here, so that SyncLazy is refused.
func syncAll(string) error {
	return errors.New("this system cannot sync one file system: set cache.sync to always")
}

// bootID is unknown here.
func bootID() string { return "" }
