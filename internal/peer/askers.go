package peer

import (
	"slices"
	"time"
)

const (
	// fanout is how many members one node serves with one chunk at a time; a further one is sent to an earlier asker. One to
	// four are equal in the simulation; a small number leaves room for other content.
	fanout = 2
	// slotTime is how long the place of an asker is kept that is served by nobody else and does not come back for it.
	slotTime = 3 * time.Second
	// lookBack bounds the search for a parent when none has room.
	lookBack = 64
)

// What an asker's parent is, when it is no other asker.
const (
	parentSelf = -1 // this node
	parentNone = -2 // nobody yet
)

// askers is the list of those who asked a node for one chunk, in the order of their coming. An asker is sent only to an
// earlier one, so the list is a tree, and nobody waits for itself.
type askers struct {
	at   map[string]int
	list []asker
	head int // nobody before it has room
	self int // askers that this node serves itself
}

// asker is a member that asked.
type asker struct {
	name   string
	room   int // how many more it may be given
	parent int
	bad    bool // dead, or found slow twice
	moans  int
	seen   time.Time
	busy   int // bodies that are being sent to it
}

// place decides who serves a member: this node (an empty name), or an earlier asker. give is how many askers the member
// itself may be sent. dead, slow and not are whom it has given up.
func (k *askers) place(name string, give int, dead, slow, not []string, now time.Time) (parent string) {
	for _, gone := range dead {
		k.blame(gone, true)
	}
	for _, moaned := range slow {
		k.blame(moaned, false)
	}
	k.expire(now)
	me := k.join(name, give, now)
	parentAt := parentSelf
	if k.self >= fanout {
		parentAt = k.find(me, dead, slow, not)
	}
	k.list[me].parent = parentAt
	if parentAt == parentSelf {
		k.self++
		return ""
	}
	k.list[parentAt].room--
	return k.list[parentAt].name
}

// join enters a member, and frees the place that it had.
func (k *askers) join(name string, give int, now time.Time) int {
	me, known := k.at[name]
	if !known {
		if k.at == nil {
			k.at = map[string]int{}
		}
		me = len(k.list)
		k.at[name] = me
		k.list = append(k.list, asker{name: name, room: give, parent: parentNone})
	}
	k.list[me].seen = now
	k.free(me)
	return me
}

// began and ended tell that a body is sent to a member by this node. When it is over its place is free: it has the chunk,
// or asks again. A place that was given away by a redirect stays taken, which spreads the load over the list.
func (k *askers) began(name string) {
	if me, ok := k.at[name]; ok {
		k.list[me].busy++
	}
}

func (k *askers) ended(name string) {
	me, ok := k.at[name]
	if !ok {
		return
	}
	k.list[me].busy--
	if k.list[me].parent == parentSelf {
		k.free(me)
	}
}

// expire frees the places at this node of members that have not come back.
func (k *askers) expire(now time.Time) {
	if k.self < fanout {
		return
	}
	for i := range k.list {
		if a := &k.list[i]; a.parent == parentSelf && a.busy == 0 && now.Sub(a.seen) > slotTime {
			k.free(i)
		}
	}
}

func (k *askers) free(i int) {
	switch p := k.list[i].parent; p {
	case parentNone:
		return
	case parentSelf:
		k.self--
	default:
		k.list[p].room++
		k.head = min(k.head, p)
	}
	k.list[i].parent = parentNone
}

// blame stops the use of a member that an asker found dead, or that two found slow. The place of a dead one goes to those
// whom it leaves behind.
func (k *askers) blame(name string, dead bool) {
	i, ok := k.at[name]
	if !ok || k.list[i].bad {
		return
	}
	if !dead {
		k.list[i].moans++
	}
	k.list[i].bad = dead || k.list[i].moans >= 2
	if dead {
		k.free(i)
	}
}

// find returns the first earlier asker with room, or else the earlier one with the fewest askers, or parentSelf if this node
// has fewer still.
func (k *askers) find(me int, unwanted ...[]string) int {
	for k.head < me && (k.list[k.head].room <= 0 || k.list[k.head].bad) {
		k.head++
	}
	usable := func(a *asker) bool {
		return !a.bad && !slices.ContainsFunc(unwanted, func(names []string) bool { return slices.Contains(names, a.name) })
	}
	for i := k.head; i < me; i++ {
		if a := &k.list[i]; a.room > 0 && usable(a) {
			return i
		}
	}
	best, room := parentSelf, -k.self
	for i := max(0, me-lookBack); i < me; i++ {
		if a := &k.list[i]; a.room > room && usable(a) {
			best, room = i, a.room
		}
	}
	return best
}
