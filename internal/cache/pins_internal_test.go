package cache

import (
	"bytes"
	"maps"
	"testing"
)

func FuzzParsePins(f *testing.F) {
	one, two := digestOf("one").String(), digestOf("two").String()
	f.Add([]byte(one + "\n" + two + "\n"))
	f.Add([]byte(one + "\n" + two))
	f.Add([]byte("\n" + one + "\r\n"))
	f.Add([]byte(one + " " + two))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		pins, damaged := parsePins(text)
		again, damagedAgain := parsePins(formatPins(pins))
		if damagedAgain || !maps.Equal(pins, again) {
			t.Errorf("%q: %v does not survive: %v, damaged %v", text, pins, again, damagedAgain)
		}
		if !damaged && len(pins) == 0 && len(bytes.TrimSpace(text)) > 0 {
			t.Errorf("%q is good and has no pins", text)
		}
	})
}
