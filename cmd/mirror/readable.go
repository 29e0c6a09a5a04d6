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

// readableAge writes how long ago a moment was in one unit, and a dash when there is none: "3m", "5h", "12d".
func readableAge(now, then time.Time) string {
	age := now.Sub(then)
	switch {
	case then.IsZero():
		return "-"
	case age < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(age/time.Second)))
	case age < time.Hour:
		return fmt.Sprintf("%dm", int(age/time.Minute))
	case age < 48*time.Hour:
		return fmt.Sprintf("%dh", int(age/time.Hour))
	}
	return fmt.Sprintf("%dd", int(age/(24*time.Hour)))
}
