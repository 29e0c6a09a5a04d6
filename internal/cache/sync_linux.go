package cache

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll brings everything on the file system of dir to the disk.
func syncAll(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync file system: %w", err)
	}
	defer file.Close()
	if err := unix.Syncfs(int(file.Fd())); err != nil {
		return fmt.Errorf("sync file system: %w", err)
	}
	return nil
}

// bootID is another after each start of the machine; empty when that cannot be told.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(b)
}
