package server

import (
	"math"
	"slices"
	"strings"
	"testing"

	"mirror/internal/oci"
)

func TestParseRange(t *testing.T) {
	f := func(header string, size int64, want ...span) {
		t.Helper()
		got, err := parseRange([]byte(header), size)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q of %d: got %v, %v; want %v", header, size, got, err, want)
		}
	}
	// One range.
	f("bytes=500-1499", 2048, span{500, 1000})
	f("bytes=500-", 2048, span{500, 1548})
	f("bytes=-500", 2048, span{1548, 500})
	f("bytes=2000-5000", 2048, span{2000, 48})
	f("bytes=0-", 2048, span{0, 2048})
	f("bytes=0-0", 2048, span{0, 1})
	f("bytes=-5000", 2048, span{0, 2048})
	f("bytes=2047-", 2048, span{2047, 1})
	f("BYTES=0-1", 2048, span{0, 2})
	f("bytes= 0-1 ", 2048, span{0, 2})
	f("bytes=0-1,", 2048, span{0, 2})
	f("bytes=0-99999999999999999999999", 2048, span{0, 2048})
	f("bytes=-99999999999999999999999", 2048, span{0, 2048})

	// Several, in the order asked for, never merged.
	f("bytes=0-0,2-2", 2048, span{0, 1}, span{2, 1})
	f("bytes=100-199, 0-99 ,-1", 2048, span{100, 100}, span{0, 100}, span{2047, 1})
	f("bytes=0-9,5-14,0-9", 2048, span{0, 10}, span{5, 10}, span{0, 10})

	// The whole instead.
	f("", 2048)
	f("bytes", 2048)
	f("bytes=", 2048)
	f("bytes=,,", 2048)
	f("items=0-1", 2048)
	f("bytes=abc", 2048)
	f("bytes=-", 2048)
	f("bytes=--1", 2048)
	f("bytes=0-1-2", 2048)
	f("bytes=+1-2", 2048)
	f("bytes=0x1-2", 2048)
	f("bytes=1 - 2", 2048)
	f("bytes=0-1,abc", 2048)
	f("bytes=0-0", 0)
	f("bytes=-1", 0)
	f("bytes=0-1,5000-6000", 2048)    // a part would be missing
	f("bytes=0-1,5-2", 2048)          // so it would here
	f("bytes=0-2047,0-0", 2048)       // more than there is
	f("bytes=0-1500,500-2000", 2048)  // more than there is
	f("bytes=0-0, -0", 2048)          // nothing is no part
	f("bytes=0-1;bytes=4-5", 2048)    // no such syntax
	f("bytes=0-1"+"\x00", 2048)       // nor this
	f("seconds=1-2,bytes=0-1", 2048)  // another unit
	f("bytes=0-1,\t1-3,  ,,", 3)      // more than there is
	f(" bytes=0-1", 2048, span{0, 2}) // blanks around
}

func TestUnsatisfiableRange(t *testing.T) {
	f := func(header string, size int64) {
		t.Helper()
		_, err := parseRange([]byte(header), size)
		if err == nil {
			t.Errorf("%q of %d: no error", header, size)
			return
		}
		if r := refusalFor(err, kindBlob, ""); r.status != 416 || r.contentRange != "bytes */2048" || r.code != oci.Unsupported {
			t.Errorf("%q: got %+v, want 416", header, r)
		}
	}
	f("bytes=2048-", 2048)
	f("bytes=5000-10000", 2048)
	f("bytes=500-0", 2048)
	f("bytes=5-2", 2048)
	f("bytes=-0", 2048)
	f("bytes=99999999999999999999-", 2048)
	f("bytes=2048-,3000-4000", 2048)
}

func TestTooManyRanges(t *testing.T) {
	header := func(n int) []byte { return []byte("bytes=" + strings.Repeat("0-0,", n)) }
	if spans, err := parseRange(header(maxRanges), 2048); err != nil || len(spans) != maxRanges {
		t.Errorf("%d ranges: got %d spans, %v", maxRanges, len(spans), err)
	}
	_, err := parseRange(header(maxRanges+1), 2048)
	if err == nil {
		t.Fatal("one range too many was taken")
	}
	if r := refusalFor(err, kindBlob, ""); r.status != 400 {
		t.Errorf("got %d, want 400: clients halve the set when they see it", r.status)
	}
}

func TestMultipartLength(t *testing.T) {
	m := newMultipart([]span{{0, 10}, {1000, 24}}, 2048)
	length := int64(len(m.tail))
	for _, p := range m.parts {
		length += int64(len(p.head)) + p.span.n
	}
	if m.length != length {
		t.Errorf("got length %d, want %d", m.length, length)
	}
}

func FuzzRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-1", "bytes=-0", "bytes=5-2", "bytes=0-1,2-3", "items=1-2", "bytes=99999999999999999999-", "bytes=,", "="} {
		f.Add([]byte(seed), int64(2048))
	}
	f.Add([]byte("bytes=-1"), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, header []byte, size int64) {
		if size < 0 {
			return
		}
		spans, err := parseRange(header, size)
		if err != nil {
			if r := refusalFor(err, kindBlob, ""); r.status != 416 && r.status != 400 {
				t.Fatalf("%q of %d: %v", header, size, err)
			}
			return
		}
		total := int64(0)
		for _, s := range spans {
			if s.off < 0 || s.n <= 0 || s.off > size-s.n {
				t.Fatalf("%q of %d: span %v lies outside", header, size, s)
			}
			total += s.n
		}
		if total > size || len(spans) > maxRanges {
			t.Fatalf("%q of %d: %d spans of %d bytes together", header, size, len(spans), total)
		}
	})
}
