package main

import (
	"testing"
	"time"
)

func TestReadableSize(t *testing.T) {
	f := func(n int64, want string) {
		t.Helper()
		if got := readableSize(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	f(0, "0 B")
	f(1023, "1023 B")
	f(1024, "1.0 KiB")
	f(1536, "1.5 KiB")
	f(50<<30, "50.0 GiB")
	f(3<<50, "3.0 PiB")
	f(1<<62, "4096.0 PiB")
}

func TestReadableAge(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	f := func(age time.Duration, want string) {
		t.Helper()
		if got := readableAge(now, now.Add(-age)); got != want {
			t.Errorf("%v: got %q, want %q", age, got, want)
		}
	}
	f(-time.Minute, "0s")
	f(59*time.Second, "59s")
	f(time.Hour-1, "59m")
	f(47*time.Hour, "47h")
	f(48*time.Hour, "2d")
	if got := readableAge(now, time.Time{}); got != "-" {
		t.Errorf("never: got %q, want a dash", got)
	}
}
