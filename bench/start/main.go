package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// options are the flags.
type options struct {
	blobs int
	files bool
	watch time.Duration
	dir   string
}

func main() {
	var o options
	flag.IntVar(&o.blobs, "blobs", 1_000_000, "records in the largest data directory")
	flag.BoolVar(&o.files, "files", false, "also make the files, so that the search after the start finds them (an inode each)")
	flag.DurationVar(&o.watch, "watch", 0, "how long to watch the node after the start of the largest directory")
	flag.StringVar(&o.dir, "measure", "", "measure this data directory and print JSON: what the command starts itself with")
	flag.Parse()
	run := compare
	if o.dir != "" {
		run = measure
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
}

// compare prints the table. An empty directory shows what a node costs that holds nothing.
func compare(o options) error {
	empty, err := emptyNode(o)
	if err != nil {
		return err
	}
	fmt.Println("| blobs | ready, cold | ready, warm | live heap per blob | resident per blob | resident when ready | lookup | link |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	sizes := slices.DeleteFunc([]int{1_000, 100_000, o.blobs}, func(n int) bool { return n > o.blobs })
	for _, blobs := range slices.Compact(sizes) {
		if err := row(o, blobs, empty); err != nil {
			return fmt.Errorf("%d blobs: %w", blobs, err)
		}
	}
	return nil
}

// emptyNode measures a node on an empty directory.
func emptyNode(o options) (figures, error) {
	dir, err := os.MkdirTemp("", "mirror-start-")
	if err != nil {
		return figures{}, err
	}
	defer os.RemoveAll(dir)
	o.watch, o.blobs = 0, 0
	return inChild(dir, o)
}

// row makes a data directory and measures it cold, then warm.
func row(o options, blobs int, empty figures) (err error) {
	dir, err := os.MkdirTemp("", "mirror-start-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := makeDirectory(dir, blobs, o.files && blobs == o.blobs); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := forget(dir); err != nil {
		return fmt.Errorf("empty page cache: %w", err)
	}
	watch := o.watch
	if blobs != o.blobs {
		watch = 0
	}
	o.watch, o.blobs = 0, blobs
	cold, err := inChild(dir, o)
	if err != nil {
		return err
	}
	o.watch = watch
	warm, err := inChild(dir, o)
	if err != nil {
		return err
	}
	each := func(got, none int64) int64 { return (got - none) / int64(blobs) }
	fmt.Printf("| %d | %.2f s | %.2f s | %d B | %d B | %d MiB | %d ns | %d ns |\n", blobs, cold.Ready.Seconds(), warm.Ready.Seconds(),
		each(warm.Heap, empty.Heap), each(warm.Resident, empty.Resident), warm.AtReady>>20, warm.Lookup.Nanoseconds(), warm.Link.Nanoseconds())
	if watch > 0 {
		fmt.Printf("\nIn the %s after the start the node took %.1f s of CPU time; %d MiB were resident then.\n\n", watch, warm.Busy.Seconds(), warm.Later>>20)
	}
	return nil
}

// inChild measures in a process of its own.
func inChild(dir string, o options) (f figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	child := exec.CommandContext(context.Background(), self, "-measure", dir, "-blobs", fmt.Sprint(o.blobs), "-watch", o.watch.String())
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		return f, fmt.Errorf("measure: %w", err)
	}
	return f, json.Unmarshal(out, &f)
}
