package peer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// tree is a list of askers under test, with a clock that only the test moves.
type tree struct {
	t *testing.T
	askers
	now time.Time
}

func newTree(t *testing.T) *tree {
	return &tree{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// ask lets a member ask, and returns who serves it; this node is "self".
func (k *tree) ask(name string, dead, slow, not []string) string {
	k.t.Helper()
	parent := k.place(name, fanout, dead, slow, not, k.now)
	k.check()
	if parent == "" {
		return "self"
	}
	return parent
}

// check tells whether the list is still a tree in which the counts are right.
func (k *tree) check() {
	k.t.Helper()
	self, given := 0, make([]int, len(k.list))
	for i, a := range k.list {
		switch {
		case k.at[a.name] != i:
			k.t.Fatalf("%s is at %d, and is said to be at %d", a.name, i, k.at[a.name])
		case a.parent >= i:
			k.t.Fatalf("%s, asker %d, is sent to asker %d, which came later", a.name, i, a.parent)
		case a.parent >= 0:
			given[a.parent]++
		case a.parent == parentSelf:
			self++
		}
	}
	if self != k.self {
		k.t.Fatalf("this node serves %d and counts %d", self, k.self)
	}
	for i, a := range k.list {
		if a.given != given[i] || a.busy < 0 || a.most == 0 && a.given > 0 {
			k.t.Fatalf("%s was given %d, counts %d of %d, and %d bodies are sent to it", a.name, given[i], a.given, a.most, a.busy)
		}
		if i < k.head && a.hasRoom() {
			k.t.Fatalf("%s has room and is passed over", a.name)
		}
	}
}

func TestAskersAreATree(t *testing.T) {
	k := newTree(t)
	var got []string
	for i := range 8 {
		got = append(got, k.ask(strconv.Itoa(i), nil, nil, nil))
	}
	if want := []string{"self", "self", "0", "0", "1", "1", "2", "2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWhoAsksAgain(t *testing.T) {
	f := func(what string, again string, dead, slow, not []string, want string) {
		t.Helper()
		k := newTree(t)
		for i := range 6 {
			k.ask(strconv.Itoa(i), nil, nil, nil)
		}
		if got := k.ask(again, dead, slow, not); got != want {
			t.Errorf("%s: %s is sent to %s, want %s", what, again, got, want)
		}
	}
	f("keeps its place", "0", nil, nil, nil, "self")
	f("keeps its parent", "3", nil, nil, nil, "0")
	f("takes over the place of its dead parent", "2", []string{"0"}, nil, nil, "self")
	f("is not sent to whom it found slow", "2", nil, []string{"0"}, nil, "self")
	f("is not sent to who has nothing", "4", nil, nil, []string{"1"}, "2")
	f("blames strangers in vain", "5", []string{"x"}, []string{"y"}, []string{"z"}, "1")
	f("blames itself", "3", []string{"3"}, nil, nil, "0")
}

func TestSlownessIsBelievedOfTwo(t *testing.T) {
	k := newTree(t)
	for i := range 6 {
		k.ask(strconv.Itoa(i), nil, nil, nil)
	}
	for range 3 { // the same one, with each of its requests
		k.ask("2", nil, []string{"0"}, nil)
	}
	if k.list[0].bad {
		t.Error("one complaint was enough")
	}
	k.ask("3", nil, []string{"0"}, nil)
	if !k.list[0].bad {
		t.Error("two complaints were not enough")
	}
	if got := k.ask("6", nil, nil, nil); got == "0" {
		t.Error("6 is sent to whom two found slow")
	}
}

func TestSlowMembersAreLeaves(t *testing.T) {
	k := newTree(t)
	k.place("slow", 0, nil, nil, nil, k.now)
	k.place("slower", 0, nil, nil, nil, k.now)
	for i := range 20 {
		if got := k.ask(strconv.Itoa(i), nil, nil, nil); got == "slow" || got == "slower" {
			t.Fatalf("%d is sent to a member with a slow link", i)
		}
	}
}

func TestPlacesAreFreed(t *testing.T) {
	t.Run("after the body", func(t *testing.T) {
		k := newTree(t)
		k.ask("a", nil, nil, nil)
		first, second := k.began("a"), k.began("a")
		first()
		if k.check(); k.self != 1 {
			t.Errorf("%d are served while a body is still sent, want 1", k.self)
		}
		second()
		if k.check(); k.self != 0 {
			t.Errorf("%d are served after all bodies, want 0", k.self)
		}
	})
	t.Run("after three seconds of nothing", func(t *testing.T) {
		k := newTree(t)
		k.ask("gone", nil, nil, nil)
		k.ask("busy", nil, nil, nil)
		ended := k.began("busy")
		k.now = k.now.Add(slotTime + 1)
		for _, want := range []string{"self", "busy"} { // gone is earlier, but has the younger place
			got := k.ask("new"+want, nil, nil, nil)
			if want == "self" && got != "self" || want != "self" && got == "self" {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		ended()
	})
	t.Run("of a stranger, never", func(t *testing.T) {
		k := newTree(t)
		ended := k.began("a")
		k.ask("a", nil, nil, nil)
		ended()
		if k.check(); k.self != 1 {
			t.Errorf("%d are served, want 1", k.self)
		}
	})
	t.Run("of a list that has begun anew", func(t *testing.T) {
		k := newTree(t)
		k.ask("a", nil, nil, nil)
		ended := k.began("a")
		for i := range askersMost {
			k.place(strconv.Itoa(i), fanout, nil, nil, nil, k.now)
		}
		ended()
		if k.check(); len(k.list) >= askersMost || k.self == 0 {
			t.Errorf("%d askers, of which %d are served", len(k.list), k.self)
		}
	})
}

// TestAskersModel does what members may do, in any order, and looks whether the list is a tree after each step.
func TestAskersModel(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { runAskers(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func runAskers(t *testing.T, random *rand.Rand) {
	k, sending := newTree(t), []func(){}
	some := func() (names []string) {
		for range random.IntN(4) - 1 {
			names = append(names, strconv.Itoa(random.IntN(60)))
		}
		return names
	}
	for range 1000 {
		name := strconv.Itoa(random.IntN(60))
		switch random.IntN(8) {
		case 0:
			k.now = k.now.Add(time.Duration(random.Int64N(int64(2 * slotTime))))
		case 1, 2:
			sending = append(sending, k.began(name))
		case 3, 4:
			if n := len(sending); n > 0 {
				at := random.IntN(n)
				sending[at]()
				sending = slices.Delete(sending, at, at+1)
			}
		default:
			dead, slow, not := some(), some(), some()
			parent := k.place(name, random.IntN(fanout+1), dead, slow, not, k.now)
			if parent != "" && slices.Contains(slices.Concat(dead, slow, not), parent) {
				t.Fatalf("%s is sent to %s, which it does not want", name, parent)
			}
		}
		k.check()
	}
}
