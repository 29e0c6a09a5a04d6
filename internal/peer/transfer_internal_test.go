package peer

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestOwnerSends(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].does(f.sends)
		b := f.chunk()
		asks := f.members["a"].asked()
		if len(asks) != 1 || asks[0].Role != AsOwner || asks[0].Key != 0 || asks[0].Start != 0 || asks[0].End != testChunk {
			t.Errorf("the owner was asked %+v", asks)
		}
		if senders := b.Senders(); len(senders) != 1 || senders[0] != "a" {
			t.Errorf("senders %v", senders)
		}
		f.wantOrigin()
	}, "a", "b", "self")
}

// Who knows how much there is does not read on to hear that it was all.
func TestCompleteWithTheLastByte(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].does(f.sends)
		b := f.blob()
		x, err := b.Open(f.t.Context(), 0, testChunk)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(x, make([]byte, testChunk)); err != nil {
			t.Fatal(err)
		}
		if senders := b.Senders(); senders[0] != "a" || len(b.going) > 0 {
			t.Errorf("senders %v, and %d chunks are on their way", senders, len(b.going))
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}, "a", "self")
}

func TestRedirectToAParent(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].does(says(StatusAskOther, HeaderNode, "c"))
		f.members["c"].does(f.sends)
		f.chunk()
		if asks := f.members["c"].asked(); len(asks) != 1 || asks[0].Role != AsParent {
			t.Errorf("the parent was asked %+v", asks)
		}
		f.wantOrigin()
	}, "a", "b", "self", "c")
}

// A parent that is gone gives its place up, and what it has sent is not asked for again.
func TestParentDies(t *testing.T) {
	const sent = 20 << 10
	for name, script := range map[string]func(f *fleet){
		"before it is asked": func(f *fleet) { f.members["c"].set(&f.members["c"].refuses, true) },
		"instead of answering": func(f *fleet) {
			f.members["c"].does(func(http.ResponseWriter, Ask) { f.members["c"].set(&f.members["c"].refuses, true); breaks() })
		},
		"while it sends": func(f *fleet) { f.members["c"].does(f.sendsFirst(sent, breaks)) },
		"silently": func(f *fleet) {
			c := f.members["c"]
			c.does(f.sendsFirst(sent, func() { c.set(&c.hangs, true); <-c.over }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(f *fleet) {
				script(f)
				f.members["a"].does(inTurn(says(StatusAskOther, HeaderNode, "c"), f.sends))
				f.chunk()
				asks := f.members["a"].asked()
				if len(asks) != 2 || namesOf(asks[1].Dead, asks[1].Not) != "[c]" {
					t.Fatalf("the owner was asked %+v", asks)
				}
				if f.members["c"].is(&f.members["c"].hangs) && !f.foundDead("c") {
					t.Error("the cluster was not told")
				}
				began := map[string]int64{"while it sends": sent, "silently": sent}[name]
				if asks[1].Start != began || asks[1].End != testChunk {
					t.Errorf("the owner was asked for %d-%d, want from %d on", asks[1].Start, asks[1].End, began)
				}
				f.wantOrigin()
			}, "a", "b", "self", "c")
		})
	}
}

// An owner that is gone is passed over; the next rank is told so.
func TestOwnerDies(t *testing.T) {
	const sent = 20 << 10
	for name, script := range map[string]func(f *fleet, a *scripted){
		"before it is asked": func(_ *fleet, a *scripted) { a.set(&a.refuses, true) },
		"silently":           func(_ *fleet, a *scripted) { a.set(&a.hangs, true) },
		"while it sends":     func(f *fleet, a *scripted) { a.does(f.sendsFirst(sent, breaks)) },
		"silently while it sends": func(f *fleet, a *scripted) {
			a.does(f.sendsFirst(sent, func() { a.set(&a.hangs, true); <-a.over }))
		},
		"but answers pings": func(_ *fleet, a *scripted) { a.does(func(http.ResponseWriter, Ask) { <-a.over }) },
		"in the middle, but answers pings": func(f *fleet, a *scripted) {
			a.does(f.sendsFirst(sent, func() { <-a.over }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(f *fleet) {
				script(f, f.members["a"])
				f.members["b"].does(f.sends)
				began := time.Now()
				f.chunk()
				asks := f.members["b"].asked()
				told := f.foundDead("a") || len(asks) == 1 && namesOf(asks[0].Dead) == "[a]"
				if len(asks) != 1 || asks[0].Role != AsOwner || !told || asks[0].Start != 0 && asks[0].Start != sent {
					t.Errorf("the next rank was asked %+v", asks)
				}
				took, most := time.Since(began), HoldTime+stallTime+pingTime+time.Second
				if f.members["a"].is(&f.members["a"].hangs) {
					if !f.foundDead("a") {
						t.Error("the cluster was not told")
					}
				} else {
					most = stuckTime + time.Second
				}
				if took > most {
					t.Errorf("took %v, want at most %v", took, most)
				}
				f.wantOrigin()
			}, "a", "b", "self")
		})
	}
}

// The registry is asked by the owner, after the next ranks were asked whether they have it.
func TestOwnChunk(t *testing.T) {
	t.Run("from the registry", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.chunk()
			for name, m := range f.members {
				if asks := m.asks; len(asks) != 1 || asks[0].Role != AsHolder {
					t.Errorf("%s was asked %+v", name, asks)
				}
			}
			f.wantOrigin("0-65536")
		}, "self", "a", "b", "c")
	})
	t.Run("from who has it", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.members["b"].does(f.sends)
			x, err := f.blob().Open(f.t.Context(), 0, testChunk)
			if err != nil {
				t.Fatal(err)
			}
			if x.Size != int64(len(f.content)) {
				t.Errorf("size %d, want %d: without it the rest would come from the registry", x.Size, len(f.content))
			}
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			f.chunk()
			f.wantOrigin()
		}, "self", "a", "b", "c")
	})
	t.Run("while those who might have it hang", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			for _, m := range f.members {
				m.set(&m.hangs, true)
			}
			began := time.Now()
			f.chunk()
			if took := time.Since(began); took > 2*probeTime {
				t.Errorf("took %v", took)
			}
			f.wantOrigin("0-65536")
		}, "self", "a", "b", "c")
	})
}

func TestSlowParentIsReplaced(t *testing.T) {
	trickle := func(f *fleet, m *scripted) func(http.ResponseWriter, Ask) {
		return func(w http.ResponseWriter, a Ask) {
			f.head(w, a)
			for at := a.Start; at < a.End; at += 16 {
				if _, err := w.Write(f.content[at : at+16]); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
	stall := func(f *fleet, m *scripted) func(http.ResponseWriter, Ask) {
		return f.sendsFirst(1000, func() { <-m.over })
	}
	for name, slow := range map[string]func(*fleet, *scripted) func(http.ResponseWriter, Ask){"slow": trickle, "stuck": stall} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(f *fleet) {
				f.members["c"].does(slow(f, f.members["c"]))
				f.members["d"].does(f.sends)
				f.members["a"].does(inTurn(says(StatusAskOther, HeaderNode, "c"), says(StatusNotYet), says(StatusAskOther, HeaderNode, "d")))
				began := time.Now()
				b := f.chunk()
				asks := f.members["a"].asked()
				if last := asks[len(asks)-1]; len(asks) != 3 || namesOf(last.Slow) != "[c]" || len(last.Dead) > 0 {
					t.Errorf("the owner was asked %+v", asks)
				}
				if again := f.members["d"].asked(); len(again) != 1 || again[0].Start == 0 {
					t.Errorf("the new parent was asked %+v, want what is missing", again)
				}
				if took := time.Since(began); took > 12*time.Second || f.foundDead("c") {
					t.Errorf("took %v; the slow one is held for dead: %v", took, f.foundDead("c"))
				}
				if b.Senders()[0] != "d" {
					t.Errorf("senders %v", b.Senders())
				}
				f.wantOrigin()
			}, "a", "self", "c", "d")
		})
	}
	t.Run("slowness never leads to the registry", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.members["c"].does(trickle(f, f.members["c"]))
			f.members["a"].does(inTurn(says(StatusAskOther, HeaderNode, "c"), says(StatusNotYet)))
			f.chunk()
			if asks := f.members["a"].asked(); len(asks) != 1+complaints {
				t.Errorf("the owner was asked %d times, want once and for each of %d complaints", len(asks), complaints)
			}
			f.wantOrigin()
		}, "a", "self", "c")
	})
}

func TestRefusalsArePassedOn(t *testing.T) {
	f := func(status int, header string, final bool, retry time.Duration) {
		t.Helper()
		inFleet(t, func(f *fleet) {
			f.members["a"].does(says(status, "Retry-After", header))
			_, err := get(f.t.Context(), f.blob(), 0, testChunk)
			refused, ok := errors.AsType[*RefusedError](err)
			if !ok || refused.Status != status || refused.Peer != "a" || refused.RetryAfter != retry || refused.Final() != final {
				t.Errorf("status %d: got %#v", status, err)
			}
			f.wantOrigin()
		}, "a", "b", "self")
	}
	f(http.StatusNotFound, "", true, 0)
	f(http.StatusForbidden, "", true, 0)
	f(http.StatusTooManyRequests, "7", false, 7*time.Second)
	f(http.StatusTooManyRequests, "-1", false, 0)
	f(http.StatusTooManyRequests, "soon", false, 0)
}

// An owner that serves nothing, or cannot reach the registry, is passed over. After two failures this node tries itself.
func TestOwnersThatCannot(t *testing.T) {
	f := func(first, second int, origins ...string) {
		t.Helper()
		inFleet(t, func(f *fleet) {
			f.members["a"].does(says(first))
			f.members["b"].does(says(second))
			f.members["c"].does(f.sends)
			f.chunk()
			f.wantOrigin(origins...)
		}, "a", "b", "c", "self")
	}
	f(StatusUnable, StatusUnable)
	f(StatusFailed, StatusUnable)
	f(StatusUnable, StatusNotHeld)
	f(http.StatusUnauthorized, http.StatusInternalServerError)
	f(StatusFailed, StatusFailed) // but c has it, and is asked before the registry
	inFleet(t, func(f *fleet) {
		for _, m := range f.members {
			m.does(says(StatusFailed))
		}
		f.chunk()
		f.wantOrigin("0-65536")
		if asks := f.members["c"].asked(); len(asks) != 0 {
			t.Errorf("a third one was asked %+v", asks)
		}
	}, "a", "b", "c", "self")
}
