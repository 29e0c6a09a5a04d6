package peer

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

// newKeyring returns the gossip keys of a secret in memberlist's form, nil when gossip is not encrypted.
func newKeyring(s Secret) (*memberlist.Keyring, error) {
	if s.ring.open {
		return nil, nil
	}
	return memberlist.NewKeyring(s.ring.gossip, s.ring.gossip[0])
}

// rotate makes wanted the keys of a keyring in use, the first of them the one that encrypts. Keys are added before one is
// left out, so that whatever was accepted before and after is accepted in between.
//
// RemoveKey moves the keys behind the removed one within a slice that the goroutines of the gossip are reading, unless
// there is none behind. Hence those that stay are moved to the front first, which copies the slice, and the rest is
// removed from its end.
func rotate(keys *memberlist.Keyring, wanted [][]byte) error {
	for _, key := range wanted {
		if err := keys.AddKey(key); err != nil {
			return fmt.Errorf("add key: %w", err)
		}
	}
	gone := func(key []byte) bool { return !contains(wanted, key) }
	front := wanted[:1]
	if slices.ContainsFunc(keys.GetKeys(), gone) {
		front = wanted
	}
	for _, key := range slices.Backward(front) {
		if err := keys.UseKey(key); err != nil {
			return fmt.Errorf("use key: %w", err)
		}
	}
	for _, key := range slices.Backward(keys.GetKeys()) {
		if !gone(key) {
			break
		}
		if err := keys.RemoveKey(key); err != nil {
			return fmt.Errorf("remove key: %w", err)
		}
	}
	return nil
}

func contains(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(other []byte) bool { return bytes.Equal(key, other) })
}
