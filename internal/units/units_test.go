package units_test

import (
	"math"
	"strings"
	"testing"

	"mirror/internal/units"
)

func TestParseBytes(t *testing.T) {
	f := func(text string, want units.Bytes) {
		t.Helper()
		if got, err := units.ParseBytes(text); err != nil || got != want {
			t.Fatalf("ParseBytes(%q) is %d, %v; want %d", text, got, err, want)
		}
	}
	f("0", 0)
	f("0GiB", 0)
	f("4096", 4096)
	f("4096B", 4096)
	f("10KiB", 10*units.KiB)
	f("512MiB", 512*units.MiB)
	f("50GiB", 50*units.GiB)
	f("2TiB", 2*units.TiB)
	f("1PiB", 1024*units.TiB)
	f("1kB", 1000)
	f("1KB", 1000)
	f("1MB", 1e6)
	f("1GB", 1e9)
	f("1.5TB", 15e11)
	f("1PB", 1e15)
	f("0.5KiB", 512)
	f("0.3GiB", 322122547)
	f("1.9", 1)
	f(" 8 MiB ", 8*units.MiB)
	f("007", 7)
	// Numbers that floating point does not hold.
	f("9007199254740993", 1<<53+1)
	f("9223372036854775807", math.MaxInt64)
	f("8191PiB", 8191<<50)
}

func TestParseBytesRefuses(t *testing.T) {
	f := func(text string) {
		t.Helper()
		got, err := units.ParseBytes(text)
		if err == nil || got != 0 {
			t.Fatalf("ParseBytes(%q) is %d, %v; want an error", text, got, err)
		}
		if !strings.Contains(err.Error(), "50GiB") {
			t.Fatalf("error %q does not say what would be right", err)
		}
	}
	f("")
	f("B")
	f("GiB")
	f("ten")
	f("10 gigabytes")
	f("10gib")
	f("10G")
	f("10GiB/s")
	f("-1")
	f("-1GiB")
	f("+1GiB")
	f("1e9")
	f("0x10")
	f("0x1p4MiB")
	f("1_000")
	f("inf")
	f("infB")
	f("NaN")
	f(".5GiB")
	f("5.GiB")
	f("1.2.3GiB")
	f("1.5.GiB")
	f("1,5GiB")
	f("10BB")
	f("8192PiB")
	f("8191.9999999999999999999PiB")
	f("9223372036854775808")
	f(strings.Repeat("9", 400))
}

func TestBytesString(t *testing.T) {
	f := func(b units.Bytes, want string) {
		t.Helper()
		if got := b.String(); got != want {
			t.Fatalf("%d prints as %q, want %q", int64(b), got, want)
		}
	}
	f(0, "0")
	f(1, "1B")
	f(1000, "1000B")
	f(units.KiB, "1KiB")
	f(1536*units.KiB, "1536KiB")
	f(50*units.GiB, "50GiB")
	f(units.TiB, "1TiB")
	f(2048*units.TiB, "2PiB")
	f(4096*1024*units.TiB, "4096PiB")
	f(math.MaxInt64, "9223372036854775807B")
}

func TestRate(t *testing.T) {
	f := func(text string, want units.Rate, printed string) {
		t.Helper()
		var r units.Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want || r.String() != printed {
			t.Fatalf("%q reads as %d and prints as %q, %v; want %d and %q", text, r, r, err, want, printed)
		}
	}
	f("0", 0, "0")
	f("0/s", 0, "0")
	f("200MiB/s", units.Rate(200*units.MiB), "200MiB/s")
	f(" 1.5MB/s ", 1500000, "1500000B/s")
	f("10 KiB /s", units.Rate(10*units.KiB), "10KiB/s")
}

func TestRateRefuses(t *testing.T) {
	f := func(text string) {
		t.Helper()
		r := units.Rate(7)
		err := r.UnmarshalText([]byte(text))
		if err == nil || r != 7 {
			t.Fatalf("%q reads as %d, %v; want an error and no change", text, r, err)
		}
		if !strings.Contains(err.Error(), "200MiB/s") {
			t.Fatalf("error %q does not say what would be right", err)
		}
	}
	f("")
	f("/s")
	f("200")
	f("200MiB")
	f("200MiB/m")
	f("-1MiB/s")
	f("fast/s")
	f("1MiB/s/s")
}

func TestBytesText(t *testing.T) {
	b := 3 * units.MiB
	text, err := b.MarshalText()
	if err != nil || string(text) != "3MiB" {
		t.Fatalf("MarshalText is %q, %v", text, err)
	}
	if err := b.UnmarshalText([]byte("much")); err == nil || b != 3*units.MiB {
		t.Fatalf("a refused text gives %v and leaves %d", err, b)
	}
	if text, err := units.Rate(b).MarshalText(); err != nil || string(text) != "3MiB/s" {
		t.Fatalf("MarshalText of the rate is %q, %v", text, err)
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, seed := range []string{"", "0", "10GiB", "1.5TB", "1.5.5", "-1", "8191PiB", "9223372036854775807", "1e3", "0.99999999999999999999KiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := units.ParseBytes(text)
		if err != nil {
			return
		}
		if b < 0 {
			t.Fatalf("%q is %d bytes", text, int64(b))
		}
		if back, err := units.ParseBytes(b.String()); err != nil || back != b {
			t.Fatalf("%q prints as %q, which reads as %d, %v", text, b, int64(back), err)
		}
		rate := units.Rate(b)
		if err := rate.UnmarshalText([]byte(rate.String())); err != nil || rate != units.Rate(b) {
			t.Fatalf("rate of %q reads back as %d, %v", text, int64(rate), err)
		}
	})
}
