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
	// askersMost bounds a list: three times the members of the largest cluster. What is beyond it is a member that asks under
	// many names, and the list begins anew.
	askersMost = 16 << 10
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
	list []*asker
	head int // nobody before it has room
	self int // askers that this node serves itself
}

// asker is a member that asked.
type asker struct {
	name   string
	most   int // how many askers it may be given
	given  int // how many it has been given
	parent int
	bad    bool     // dead, or found slow by two
	moans  []string // who found it slow
	seen   time.Time
	busy   int // bodies that are being sent to it
}

// hasRoom tells whether another asker may be sent to it.
func (a *asker) hasRoom() bool { return !a.bad && a.given < a.most }

// place decides who serves a member: this node (an empty name), or an earlier asker. give is how many askers the member
// itself may be sent. dead, slow and not are whom it has given up.
func (k *askers) place(name string, give int, dead, slow, not []string, now time.Time) (parent string) {
	for _, moaned := range slow {
		k.doubt(moaned, name)
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
	k.list[parentAt].given++
	return k.list[parentAt].name
}

// join enters a member, and frees the place that it had.
func (k *askers) join(name string, give int, now time.Time) int {
	me, known := k.at[name]
	if !known {
		if k.at == nil || len(k.list) >= askersMost {
			*k = askers{at: map[string]int{}}
		}
		me = len(k.list)
		k.at[name] = me
		k.list = append(k.list, &asker{name: name, most: give, parent: parentNone})
	}
	k.list[me].seen = now
	k.free(me)
	return me
}

// began tells that a body is sent to a member by this node, until ended is called. When the last is over the member's place is
// free: it has the chunk, or asks again. A place that was given away by a redirect stays taken, which spreads the load over the
// list.
func (k *askers) began(name string) (ended func()) {
	me, ok := k.at[name]
	if !ok {
		return func() {}
	}
	a := k.list[me]
	a.busy++
	return func() {
		a.busy--
		current := me < len(k.list) && k.list[me] == a // or the list has begun anew
		if current && a.busy == 0 && a.parent == parentSelf {
			k.free(me)
		}
	}
}

// expire frees the places at this node of members that have not come back.
func (k *askers) expire(now time.Time) {
	if k.self < fanout {
		return
	}
	for i, a := range k.list {
		if a.parent == parentSelf && a.busy == 0 && now.Sub(a.seen) > slotTime {
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
		k.list[p].given--
		k.head = min(k.head, p)
	}
	k.list[i].parent = parentNone
}

// bury stops the use of a member that an asker found dead. Its place goes to those whom it leaves behind.
func (k *askers) bury(name string) {
	if i, ok := k.at[name]; ok && !k.list[i].bad {
		k.list[i].bad = true
		k.free(i)
	}
}

// doubt stops the use of a member that two have found slow. One says it again with each request, which counts once.
func (k *askers) doubt(name, by string) {
	i, ok := k.at[name]
	if !ok || k.list[i].bad || slices.Contains(k.list[i].moans, by) {
		return
	}
	k.list[i].moans = append(k.list[i].moans, by)
	k.list[i].bad = len(k.list[i].moans) >= 2
}

// find returns the first earlier asker with room, or else the one of the last earlier ones with the fewest askers, or parentSelf
// if this node has no more than that. Who is given nobody, because its link is slow, is no parent at all.
func (k *askers) find(me int, unwanted ...[]string) int {
	for k.head < me && !k.list[k.head].hasRoom() {
		k.head++
	}
	wanted := func(a *asker) bool {
		return !slices.ContainsFunc(unwanted, func(names []string) bool { return slices.Contains(names, a.name) })
	}
	for i := k.head; i < me; i++ {
		if a := k.list[i]; a.hasRoom() && wanted(a) {
			return i
		}
	}
	best, least := parentSelf, k.self
	for i := max(0, me-lookBack); i < me; i++ {
		if a := k.list[i]; !a.bad && a.most > 0 && a.given < least && wanted(a) {
			best, least = i, a.given
		}
	}
	return best
}
