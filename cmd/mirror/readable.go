package main

import (
	"fmt"
	"time"
)

// readableSize writes a number of bytes in the largest unit in which it is at least one: "3.6 MiB", "512 B".
func readableSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n), 0
	for size >= 1024 && unit < 5 {
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", size, " KMGTP"[unit])
}

// readableAge writes how long ago a moment was, and a dash when there is none.
func readableAge(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return readableDuration(now.Sub(then))
}

// readableDuration writes a duration in one unit: "3m", "5h", "12d". What is negative is "0s".
func readableDuration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d/time.Second)))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	}
	return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
}
