package peer

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinesOfMemberlist has lines as memberlist writes them. That it still does is what the tests of membership show.
func TestLinesOfMemberlist(t *testing.T) {
	f := func(text string, want gossipLine) {
		t.Helper()
		if got := parseGossipLine(text); got != want {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
	f("[INFO] memberlist: Suspect a has failed, no acks received", gossipLine{level: slog.LevelInfo, text: "Suspect a has failed, no acks received"})
	f("[DEBUG] memberlist: Stream connection from=127.0.0.1:1", gossipLine{level: slog.LevelDebug, text: "Stream connection from=127.0.0.1:1", from: "127.0.0.1:1"})
	f("[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=127.0.0.1:1",
		gossipLine{level: slog.LevelWarn, text: "Decrypt packet failed: no installed keys could decrypt the message from=127.0.0.1:1", from: "127.0.0.1:1", refused: reasonSecret})
	f(`[ERR] memberlist: discarding stream with unacceptable label "x": from=[::1]:1`,
		gossipLine{level: slog.LevelWarn, text: `discarding stream with unacceptable label "x": from=[::1]:1`, from: "[::1]:1", refused: reasonCluster})
	f("[ERR] memberlist: Conflicting address for a.", gossipLine{level: slog.LevelDebug, text: "Conflicting address for a."})
	f("Err: Could not set the deadline", gossipLine{level: slog.LevelWarn, text: "Err: Could not set the deadline"})
	f("", gossipLine{level: slog.LevelWarn})
}

func TestLimiterCountsWhatItDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(time.Minute)
		f := func(kind string, wantDropped int, want bool) {
			t.Helper()
			if dropped, ok := l.allow(kind); ok != want || dropped != wantDropped {
				t.Errorf("%s: got %d, %v, want %d, %v", kind, dropped, ok, wantDropped, want)
			}
		}
		f("a", 0, true)
		f("a", 0, false)
		f("b", 0, true)
		f("a", 0, false)
		time.Sleep(time.Minute)
		f("a", 2, true)
		time.Sleep(time.Minute)
		f("a", 0, true)
	})
}

func TestStanding(t *testing.T) {
	const after = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		s := newStanding()
		f := func(what string, wantChanged bool, wantWait time.Duration, want Refusal, wantRoom Room) {
			t.Helper()
			changed, wait := s.settle(after)
			refuses, room := s.told()
			if changed != wantChanged || wait != wantWait || refuses != want || room != wantRoom {
				t.Errorf("%s: changed %v, wait %v, told %v and %d", what, changed, wait, refuses, room)
			}
		}
		f("nothing was set", false, 0, 0, 0)
		s.refuse(Young|DiskFull, true)
		f("bad news", true, 0, Young|DiskFull, 0)
		s.refuse(Young, false)
		f("no longer young", true, 0, DiskFull, 0)
		s.refuse(DiskFull, false)
		f("good news", false, after, DiskFull, 0)
		time.Sleep(20 * time.Second)
		s.have(7)
		f("another room", false, 10*time.Second, DiskFull, 0)
		s.refuse(DiskFull, true)
		s.refuse(DiskFull, false)
		f("it has come back", false, after, DiskFull, 0)
		time.Sleep(after)
		f("both have lasted", true, 0, 0, 7)
		s.have(8)
		s.have(7)
		f("to and fro", false, 0, 0, 7)
	})
}
