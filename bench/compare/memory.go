package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// besides is what a cold pull takes of memory beside a page for each byte that is stored.
const besides = 256 << 20

// reporting is how long the kernel waits after memory has become free before it gives it to the host (2 s in Linux), and some more.
const reporting = 2500 * time.Millisecond

// takeMemory makes the kernel have n bytes of memory free that it really has. A virtual machine may have given free memory back
// to its host (free page reporting, a balloon), and each first touch of such a page costs a turn of the host: several seconds
// for each GiB where this was measured, whoever touches it, so one server paid for pages that the one before it had got.
func takeMemory(n int64) error {
	pages, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("take %d bytes of memory: %w", n, err)
	}
	for at := 0; at < len(pages); at += os.Getpagesize() {
		pages[at] = 1
	}
	time.Sleep(reporting)
	return unix.Munmap(pages)
}
