package peer

import (
	"errors"
	"fmt"
)

// Sign returns the Authorization header of a request to a member, and what its answer is checked with.
func (g *Group) Sign(to string, r Request) (header string, p Proof) { return g.signer.Sign(to, r) }

// Verify tells which member sent a request to this node. The error matches ErrUnsigned, ErrForged, ErrClock, ErrReplayed or
// ErrCrowded, and was counted.
func (g *Group) Verify(header string, r Request) (Proof, error) {
	p, err := g.signer.Verify(header, r)
	g.countRefusal(err)
	return p, err
}

// SignAnswer returns the signature of the answer to a verified request.
func (g *Group) SignAnswer(p Proof, a Answer) string { return g.signer.SignAnswer(p, a) }

// VerifyAnswer checks the signature of the answer to a request of this node. The error matches ErrForged, and was counted.
func (g *Group) VerifyAnswer(p Proof, a Answer, signature string) error {
	err := g.signer.VerifyAnswer(p, a, signature)
	g.countRefusal(err)
	return err
}

// countRefusal counts what Verify and VerifyAnswer return.
func (g *Group) countRefusal(err error) {
	for sentinel, why := range map[error]reason{
		ErrUnsigned: reasonUnsigned, ErrForged: reasonForged, ErrClock: reasonClock, ErrReplayed: reasonReplayed, ErrCrowded: reasonCrowded,
	} {
		if errors.Is(err, sentinel) {
			g.metrics.refused[why].Inc()
		}
	}
}

// Reload reads the secret file again. What is wrong with it is an error and changes nothing.
func (g *Group) Reload() error {
	if g.cfg.SecretFile == "" {
		return nil
	}
	secret, err := g.readSecret()
	if err != nil {
		return err
	}
	return g.Rotate(secret)
}

// Rotate replaces the keys of gossip and transfers. Members that share one key at least understand each other, whatever
// the order in which they are told; so a new key is first added at the end on all members, then moved to the front on
// all, then the old one is removed. Calls must not overlap.
func (g *Group) Rotate(s Secret) error {
	if g.keyring == nil {
		return errors.New("the node has started without a secret: restart it to use one")
	}
	if err := rotate(g.keyring, s.ring.gossip); err != nil {
		return fmt.Errorf("change the keys of the gossip: %w", err)
	}
	g.signer.Rotate(s)
	return nil
}

// refuse counts a refusal of a member, and logs it once in a while.
func (g *Group) refuse(why reason, message, peer string) {
	g.metrics.refused[why].Inc()
	if dropped, ok := g.refusals.allow(string(why)); ok {
		g.log.Warn(message, append([]any{"peer", peer}, dropLines(dropped)...)...)
	}
}

// refuseGossip is refuse for gossip that could not be read, of which only the address of the sender is known.
func (g *Group) refuseGossip(why reason, from string) {
	message := "the secrets of this node and of a peer do not match: compare the files of peers.secret_file, and send SIGHUP " +
		"to the node whose file was changed"
	if why == reasonCluster {
		message = "a peer of another cluster has called: compare peers.cluster and the seeds (peers.join) of the two nodes"
	}
	g.refuse(why, message, from)
}

// bridge returns what takes the log lines of memberlist.
func (g *Group) bridge() bridge {
	return bridge{log: g.log, limit: g.lines, refused: g.refuseGossip}
}
