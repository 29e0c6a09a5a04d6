package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// held answers "not yet" n times, and then sends.
func (f *fleet) held(n int, headers ...string) func(http.ResponseWriter, Ask) {
	var ways []func(http.ResponseWriter, Ask)
	for range n {
		ways = append(ways, says(StatusNotYet, headers...))
	}
	return inTurn(append(ways, f.sends)...)
}

func TestWaitingAsLongAsBytesMove(t *testing.T) {
	inFleet(t, func(f *fleet) {
		const times = 1000 // five minutes
		f.members["a"].does(f.held(times, HeaderMoving, "1"))
		f.chunk()
		if asks := f.members["a"].asked(); len(asks) != times+1 {
			t.Errorf("asked %d times, want %d", len(asks), times+1)
		}
		f.wantOrigin()
	}, "a", "self", "b")
}

// A member that says "not yet" at once is not asked without a pause.
func TestWaitingCostsLittle(t *testing.T) {
	inFleet(t, func(f *fleet) {
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		defer cancel()
		f.members["a"].does(func(w http.ResponseWriter, _ Ask) { w.Header().Set(HeaderMoving, "1"); w.WriteHeader(StatusNotYet) })
		if _, err := get(ctx, f.blob(), 0, testChunk); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if asks, most := len(f.members["a"].asked()), int(10*time.Second/pollGap)+1; asks > most {
			t.Errorf("asked %d times, want at most %d", asks, most)
		}
	}, "a", "self", "b")
}

// A chunk whose owner gets nowhere is taken over late, and in the order of the ranks.
func TestTakingOver(t *testing.T) {
	f := func(after, before time.Duration, order ...string) {
		t.Helper()
		inFleet(t, func(f *fleet) {
			f.members["a"].does(says(StatusNotYet))
			began := time.Now()
			f.chunk()
			if took := time.Since(began); took < after || took > before {
				t.Errorf("rank %d took over after %v, want %v to %v", len(order), took, after, before)
			}
			f.wantOrigin("0-65536")
		}, order...)
	}
	f(3*takeOver, 4*takeOver, "a", "self", "b", "c")
	f(3*takeOver, 4*takeOver, "a", "b", "self", "c")
	f(time.Minute, 2*time.Minute, "a", "b", "c", "self")
}

// Who is said to be dead and answers here is asked again, but not for the asker as a parent: that waits for this node.
func TestWaitGoesOnElsewhereWhenTheOwnerLives(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].does(func(w http.ResponseWriter, a Ask) {
			if slices.Contains(a.Not, "c") {
				f.sends(w, a)
				return
			}
			says(StatusAskOther, HeaderNode, "c")(w, a)
		})
		f.members["c"].does(says(StatusNotYet, HeaderMoving, "2"))
		time.AfterFunc(2*time.Second, func() {
			f.exchange.Admit(Ask{Content: f.name, End: testChunk, Dead: []string{"a"}}, "c", false)
		})
		began := time.Now()
		f.chunk()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v, want a second after the news", took)
		}
		f.wantOrigin()
	}, "a", "self", "b", "c")
}

// The wait cycle: this node waits by way of a, and somebody who found a dead waits for this node.
func TestWaitEndsWhenTheOwnerIsSaidToBeDead(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].does(says(StatusAskOther, HeaderNode, "c"))
		f.members["c"].does(says(StatusNotYet, HeaderMoving, "2")) // c waits for this node
		time.AfterFunc(2*time.Second, func() {
			if to := f.exchange.Admit(Ask{Content: f.name, End: testChunk, Dead: []string{"a", "nobody"}}, "c", false); to != "" {
				t.Errorf("c is sent to %s", to)
			}
		})
		began := time.Now()
		f.chunk()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v, want a second after the news", took)
		}
		if m := f.exchange.Moving(Ask{Content: f.name}); m != 0 {
			t.Errorf("%d is moving after the end", m)
		}
		f.wantOrigin("0-65536")
	}, "a", "self", "b", "c")
}

// News of death that hit nobody who waits change nothing, and those about this node are wrong.
func TestNewsOfOtherDeaths(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].does(f.held(10, HeaderMoving, "1"))
		time.AfterFunc(time.Second, func() {
			f.exchange.Admit(Ask{Content: f.name, End: testChunk, Dead: []string{"self", "b", "x"}}, "c", false)
			f.exchange.Admit(Ask{Content: f.name, Key: 7, End: testChunk, Dead: []string{"a"}}, "c", false)
		})
		f.chunk()
		if asks := f.members["a"].asked(); len(asks) != 11 {
			t.Errorf("asked %d times, want 11", len(asks))
		}
		f.wantOrigin()
	}, "a", "self", "b", "c")
}

// The size is known long before the bytes come, so that a client need not wait for its headers.
func TestOpenReturnsWithTheSize(t *testing.T) {
	inFleet(t, func(f *fleet) {
		size := int64(len(f.content))
		f.members["a"].does(f.held(100, HeaderMoving, "1", HeaderSize, strconv.FormatInt(size, 10)))
		began := time.Now()
		x, err := f.blob().Open(f.t.Context(), 0, testChunk)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second || x.Size != size || x.Start != 0 || !x.Peer {
			t.Errorf("after %v: size %d, start %d, from a peer: %v", took, x.Size, x.Start, x.Peer)
		}
		eventuallyMoving := func() int { time.Sleep(time.Second); return x.Moving() }
		if m := eventuallyMoving(); m != 2 {
			t.Errorf("moving %d while the owner gets it, want 2", m)
		}
		got, err := io.ReadAll(x)
		if err := errors.Join(err, x.Close()); err != nil || !bytes.Equal(got, f.content[:testChunk]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}, "a", "self")
}

func TestRegistryWithoutRanges(t *testing.T) {
	t.Run("the owner takes all of it", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.origin = func(context.Context, int64, int64) (*Stream, error) {
				return &Stream{Body: io.NopCloser(bytes.NewReader(f.content)), Size: int64(len(f.content)), Whole: true}, nil
			}
			x, err := f.blob().Open(f.t.Context(), 0, testChunk)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(x)
			if err := errors.Join(err, x.Close()); err != nil || !x.Whole || x.Start != 0 || !bytes.Equal(got, f.content) {
				t.Errorf("whole %v, from %d on, %d bytes, %v", x.Whole, x.Start, len(got), err)
			}
		}, "self", "a")
	})
	t.Run("the others ask for one key", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.members["a"].does(f.held(1, HeaderWhole, "1", HeaderMoving, "1"))
			b := f.blob()
			for chunk := range int64(3) {
				start := chunk * testChunk
				if got, err := get(f.t.Context(), b, start, start+testChunk); err != nil || !bytes.Equal(got, f.content[start:start+testChunk]) {
					t.Fatalf("chunk %d: %d bytes, %v", chunk, len(got), err)
				}
			}
			for _, a := range f.members["a"].asked() {
				if a.Key != 0 {
					t.Errorf("asked for key %d", a.Key)
				}
			}
			f.wantOrigin()
		}, "a", "self")
	})
}

// When the registry cannot be asked, the bytes come from whoever has them.
func TestRescue(t *testing.T) {
	off := errors.New("the registry is off")
	t.Run("from who has them", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.origin = func(context.Context, int64, int64) (*Stream, error) { return nil, off }
			f.members["e"].does(f.sends) // beyond the ranks that an owner asks anyway
			f.chunk()
		}, "self", "a", "b", "c", "d", "e")
	})
	t.Run("in vain", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.origin = func(context.Context, int64, int64) (*Stream, error) { return nil, off }
			if _, err := get(f.t.Context(), f.blob(), 0, testChunk); !errors.Is(err, off) {
				t.Errorf("got %v, want the error of the registry", err)
			}
		}, "self", "a", "b")
	})
	t.Run("not when it has refused", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.origin = func(context.Context, int64, int64) (*Stream, error) {
				return nil, &RefusedError{Status: http.StatusNotFound, Cause: off}
			}
			f.members["d"].does(f.sends)
			if _, err := get(f.t.Context(), f.blob(), 0, testChunk); !errors.Is(err, off) {
				t.Errorf("got %v, want the refusal", err)
			}
		}, "self", "a", "b", "c", "d")
	})
}

// Whatever a transfer is doing, it ends with its context or with Close, and leaves nothing behind: the bubble would tell.
func TestEndAtAnyStage(t *testing.T) {
	stages := map[string]func(f *fleet){
		"while a connection is made": func(f *fleet) { f.members["a"].set(&f.members["a"].deaf, true) },
		"while the owner is silent":  func(f *fleet) { f.members["a"].does(func(http.ResponseWriter, Ask) { <-f.members["a"].over }) },
		"while waiting":              func(f *fleet) { f.members["a"].does(says(StatusNotYet, HeaderMoving, "1")) },
		"while waiting for a parent": func(f *fleet) {
			f.members["a"].does(says(StatusAskOther, HeaderNode, "b"))
			f.members["b"].does(says(StatusNotYet, HeaderMoving, "1"))
		},
		"while bytes come": func(f *fleet) { f.members["a"].does(f.sendsFirst(1000, func() { <-f.members["a"].over })) },
		"while a parent is slow": func(f *fleet) {
			f.members["a"].does(inTurn(says(StatusAskOther, HeaderNode, "b"), says(StatusNotYet)))
			f.members["b"].does(f.sendsFirst(1000, func() { <-f.members["b"].over }))
		},
		"while the registry is silent": func(f *fleet) {
			f.members["a"].does(says(StatusFailed))
			f.members["b"].does(says(StatusFailed))
			f.origin = func(ctx context.Context, _, _ int64) (*Stream, error) { <-ctx.Done(); return nil, ctx.Err() }
		},
	}
	for name, script := range stages {
		for _, after := range []time.Duration{0, 10 * time.Millisecond, 200 * time.Millisecond, 2200 * time.Millisecond} {
			t.Run(name+" after "+after.String(), func(t *testing.T) {
				inFleet(t, func(f *fleet) {
					script(f)
					ctx, cancel := context.WithTimeout(f.t.Context(), after)
					defer cancel()
					if got, err := get(ctx, f.blob(), 0, testChunk); err == nil && !bytes.Equal(got, f.content[:testChunk]) {
						t.Errorf("got %d bytes", len(got)) // those who found another way are no less right
					}
				}, "a", "b", "self")
			})
		}
	}
	t.Run("by Close", func(t *testing.T) {
		inFleet(t, func(f *fleet) {
			f.members["a"].does(f.held(100, HeaderMoving, "1", HeaderSize, "196608"))
			x, err := f.blob().Open(f.t.Context(), 0, testChunk)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := x.Close(); err != nil || time.Since(began) > 0 {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			synctest.Wait()
		}, "a", "self")
	})
}
