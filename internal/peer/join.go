package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

const (
	// firstRejoin is the wait after the first attempt to join, in a cluster whose nodes start together. It doubles.
	firstRejoin = time.Second
	// maxJoins is how many members are joined at a time: one tells all the others, three also when it knows few.
	maxJoins = 3
	// maxAttempts bounds the addresses that a node that is alone tries at a time; one that is not tries maxJoins of them.
	maxAttempts = 16
	// contestedFor is how long a node whose name was contested looks for members that have not heard of it.
	contestedFor = 2 * time.Minute
)

// joiner looks for members among the seeds, for as long as the node runs. Members that are known are left alone: they
// exchange what they know anyway, and to join all of them again and again is what overloads large clusters. What is left
// are addresses that became part of a seed's name, and the other side of a partition.
type joiner struct {
	group  *Group
	warned bool // that no seed answers
	joined bool // has had a member beside itself
}

// run tries now, soon again while the node is alone, and then every now and then.
func (j *joiner) run(ctx context.Context) {
	wait := min(firstRejoin, j.group.settings.Rejoin)
	for {
		j.report(j.round(ctx))
		if j.joined {
			wait = j.group.settings.Rejoin
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait*3/4 + rand.N(wait/2+1)):
		}
		wait = min(2*wait, j.group.settings.Rejoin)
	}
}

// round joins some of the addresses that the seeds lead to and that belong to no member yet. The error says what went
// wrong on the way, which counts only if the node is alone afterwards.
func (j *joiner) round(ctx context.Context) error {
	addresses, errs := j.strangers(ctx)
	rand.Shuffle(len(addresses), func(a, b int) { addresses[a], addresses[b] = addresses[b], addresses[a] })
	attempts := maxJoins
	if j.group.list.NumMembers() < 2 {
		attempts = maxAttempts
	}
	joins := 0
	for _, address := range addresses[:min(attempts, len(addresses))] {
		if ctx.Err() != nil || joins == maxJoins {
			break
		}
		if err := j.group.join(address); err != nil {
			errs = append(errs, err)
		} else {
			joins++
		}
	}
	return errors.Join(errs...)
}

// strangers lists the addresses behind the seeds that are neither this node nor a member. A node whose name was contested
// goes to members too, because some have not heard of its new address.
func (j *joiner) strangers(ctx context.Context) (addresses []netip.AddrPort, errs []error) {
	met := map[netip.AddrPort]bool{j.group.address: true}
	if !j.group.gossip.isContested(contestedFor) {
		for _, m := range j.group.View().Members() {
			met[m.Gossip] = true
		}
	}
	for _, s := range j.group.seeds {
		found, err := s.addresses(ctx, j.group.settings.Resolver)
		if err != nil {
			errs = append(errs, err)
		}
		for _, address := range found {
			if !met[address] {
				met[address] = true
				addresses = append(addresses, address)
			}
		}
	}
	return addresses, errs
}

// report tells once that nobody answers, and once that somebody does.
func (j *joiner) report(err error) {
	members := j.group.list.NumMembers()
	switch {
	case members < 2 && j.joined:
		j.joined, j.warned = false, false
		j.group.log.Info("every other member is gone: content comes from the upstreams alone")
	case members < 2 && err != nil && !j.warned && j.group.ctx.Err() == nil:
		j.warned = true
		j.group.log.Warn("no other member could be reached, content comes from the upstreams alone: the seeds are tried again and again", "error", err)
	case members >= 2 && !j.joined:
		j.joined, j.warned = true, false
		j.group.log.Info(fmt.Sprintf("joined the cluster, which has %d members", members))
	}
}

// join exchanges lists of members with the node at an address.
func (g *Group) join(address netip.AddrPort) error {
	// memberlist wants a name for each address that it dials; nobody compares it in a join.
	_, err := g.list.Join([]string{"seed/" + address.String()})
	if err == nil {
		return nil
	}
	if why := gossipRefusal(err.Error()); why != "" {
		g.refuseGossip(why, address.String())
		return fmt.Errorf("join %s: %w", address, errSecret)
	}
	return fmt.Errorf("join %s: %w", address, oneLine(err))
}

// errSecret is what a seed with another secret is reported as.
var errSecret = errors.New("its secret does not match")

// oneLine returns the innermost of memberlist's listed errors.
func oneLine(err error) error {
	var list interface{ WrappedErrors() []error }
	if errors.As(err, &list) {
		if all := slices.DeleteFunc(slices.Clone(list.WrappedErrors()), func(e error) bool { return e == nil }); len(all) > 0 {
			return all[0]
		}
	}
	return err
}
