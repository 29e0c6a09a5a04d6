//go:build !linux

package cache

import (
	"errors"
	"os"
)

// punch is not possible where the kernel has no common call for it.
func punch(*os.File, Span) error { return errors.ErrUnsupported }
