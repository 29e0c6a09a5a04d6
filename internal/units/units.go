package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a number of bytes.
type Bytes int64

// Rate is a number of bytes per second. Zero means unlimited wherever a rate is a limit.
type Rate int64

// The multiples of a byte.
const (
	KiB Bytes = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// multiples lists every accepted unit, longest suffix first so that "GiB" is not read as "B".
var multiples = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15},
	{"B", 1}, {"", 1},
}

// ParseBytes reads a size: a decimal number, then optionally a unit ("50GiB", "1.5TB", "4096"). A fraction of a byte is
// dropped. Signs, exponents, unknown units and sizes of 8 EiB and more are errors.
func ParseBytes(text string) (Bytes, error) {
	trimmed := strings.TrimSpace(text)
	for _, m := range multiples {
		number, ok := strings.CutSuffix(trimmed, m.suffix)
		if !ok {
			continue
		}
		if size, ok := scale(strings.TrimSpace(number), m.factor); ok {
			return Bytes(size), nil
		}
		break
	}
	return 0, fmt.Errorf("%q is not a size: want a number with a unit such as 512MiB, 50GiB or 1TB", text)
}

// scale returns number times factor when number is digits, perhaps with a fraction, and the product fits. Only the
// fraction goes through floating point, which could not hold every whole number of bytes.
func scale(number string, factor int64) (int64, bool) {
	whole, fraction, dotted := strings.Cut(number, ".")
	if !digits(whole) || dotted && !digits(fraction) {
		return 0, false
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > math.MaxInt64/factor {
		return 0, false
	}
	part, err := strconv.ParseFloat("0."+fraction, 64)
	if err != nil {
		return 0, false
	}
	size := n*factor + int64(part*float64(factor))
	return size, size >= 0
}

// digits reports whether text is one decimal digit or more, and nothing else.
func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// UnmarshalText reads what ParseBytes reads.
func (b *Bytes) UnmarshalText(text []byte) error {
	parsed, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = parsed
	return nil
}

// MarshalText writes what String writes.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String writes the size in the largest unit that divides it without a fraction: "50GiB", "1536KiB", "1000B", "0".
func (b Bytes) String() string {
	if b == 0 {
		return "0"
	}
	suffixes := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i, v := 0, int64(b)
	for v%1024 == 0 && i < len(suffixes)-1 {
		v /= 1024
		i++
	}
	return strconv.FormatInt(v, 10) + suffixes[i]
}

// UnmarshalText reads a size followed by "/s", or 0.
func (r *Rate) UnmarshalText(text []byte) error {
	size, perSecond := strings.CutSuffix(strings.TrimSpace(string(text)), "/s")
	if !perSecond && size != "0" {
		return fmt.Errorf("%q is not a rate: want a size per second such as 200MiB/s, or 0 for none", text)
	}
	parsed, err := ParseBytes(size)
	if err != nil {
		return fmt.Errorf("%q is not a rate: want a size per second such as 200MiB/s, or 0 for none", text)
	}
	*r = Rate(parsed)
	return nil
}

// MarshalText writes what String writes.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String writes the rate in the form that UnmarshalText reads.
func (r Rate) String() string {
	if r == 0 {
		return "0"
	}
	return Bytes(r).String() + "/s"
}
