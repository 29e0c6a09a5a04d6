package peer

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// typical is what a member of an ordinary cluster tells.
var typical = metadata{
	versions: Versions{Min: 1, Max: 3}, refuses: Young | DiskFull, room: 9, start: 0x0102030405060708, chunkSize: 8 << 20,
	port: 5003, host: netip.MustParseAddr("2001:db8::7"), zone: "europe-central-1a",
}

func TestMetadataSurvivesItsPacking(t *testing.T) {
	f := func(m metadata) {
		t.Helper()
		packed := m.append(nil)
		got, err := parseMetadata(packed)
		if err != nil || got != m {
			t.Errorf("got %+v, %v, want %+v", got, err, m)
		}
		if len(packed) > 120 {
			t.Errorf("%d bytes, want at most 120", len(packed))
		}
	}
	f(typical)
	f(metadata{})
	f(metadata{host: netip.MustParseAddr("10.0.0.1"), zone: strings.Repeat("z", maxZone)})
}

// TestMetadataOfLaterVersions reads what has fields that this version does not know.
func TestMetadataOfLaterVersions(t *testing.T) {
	got, err := parseMetadata(append(typical.append(nil), "and more"...))
	if err != nil || got != typical {
		t.Errorf("got %+v, %v, want %+v", got, err, typical)
	}
}

func TestMetadataThatIsCutOff(t *testing.T) {
	packed := typical.append(nil)
	for n := range packed {
		if got, err := parseMetadata(packed[:n]); !errors.Is(err, errMetadata) {
			t.Errorf("the first %d of %d bytes: got %+v, %v", n, len(packed), got, err)
		}
	}
}

func TestMetadataIsRefused(t *testing.T) {
	f := func(want string, packed []byte) {
		t.Helper()
		if _, err := parseMetadata(packed); !errors.Is(err, errMetadata) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	other := typical.append(nil)
	other[0] = 2
	f("layout 2", other)
	f("too few", []byte{layout})
	long := metadata{zone: strings.Repeat("z", maxZone+1)}
	f("a zone of 64 bytes", long.append(nil))
	strange := metadata{}.append(nil)
	f("an address of 5 bytes", append(strange[:len(strange)-2], 5, 1, 2, 3, 4, 5, 0))
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte{})
	f.Add(typical.append(nil))
	f.Add(metadata{}.append(nil))
	f.Add(append(typical.append(nil), 1, 2, 3))
	f.Add([]byte{1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, packed []byte) {
		m, err := parseMetadata(packed)
		if err != nil {
			if m != (metadata{}) {
				t.Errorf("an error comes with %+v", m)
			}
			return
		}
		if again, err := parseMetadata(m.append(nil)); err != nil || again != m {
			t.Errorf("%+v becomes %+v, %v", m, again, err)
		}
	})
}

func TestVersionsInCommon(t *testing.T) {
	f := func(a, b Versions, want uint8, wantOK bool) {
		t.Helper()
		for _, pair := range [][2]Versions{{a, b}, {b, a}} {
			if got, ok := pair[0].Common(pair[1]); ok != wantOK || ok && got != want {
				t.Errorf("%v and %v: got %d, %v, want %d, %v", pair[0], pair[1], got, ok, want, wantOK)
			}
		}
	}
	f(Versions{1, 1}, Versions{1, 1}, 1, true)
	f(Versions{1, 2}, Versions{2, 3}, 2, true)
	f(Versions{1, 4}, Versions{2, 3}, 3, true)
	f(Versions{1, 1}, Versions{2, 3}, 0, false)
}

func TestRoomClasses(t *testing.T) {
	f := func(size int64, want Room) {
		t.Helper()
		if got := RoomOf(size); got != want {
			t.Errorf("%d bytes: got %d, want %d", size, got, want)
		}
	}
	f(-1, 0)
	f(1<<30-1, 0)
	f(1<<30, 1)
	f(50<<30, 6)
	f(64<<30, 7)
}

func TestRefusalInWords(t *testing.T) {
	f := func(r Refusal, want string) {
		t.Helper()
		if got := r.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(0, "none")
	f(Young|DiskFull, "young, disk full")
	f(Slow|1<<6, "slow, unknown 0x40")
}
