package peer

import "errors"

// Errors of a request or an answer between members.
var (
	// ErrUnsigned means that a request has no signature that could be read. Its sender is no member, or nobody.
	ErrUnsigned = errors.New("not signed by a member")
	// ErrForged means that a signature does not match: the sender has another secret, or what it sent was altered, or meant
	// for another member.
	ErrForged = errors.New("the signature does not match: compare the secret files of the two nodes, and peers.cluster")
	// ErrClock means that a request was signed too long ago, or in the future.
	ErrClock = errors.New("the clocks differ: set them with NTP")
	// ErrReplayed means that the very same request was accepted before.
	ErrReplayed = errors.New("a request that was seen before")
	// ErrCrowded means that more requests came than can be remembered, so that a replay could not be told.
	ErrCrowded = errors.New("too many requests of peers within two minutes: ask another member")
)

// ErrMalformed means that a member has sent something that this version does not understand.
var ErrMalformed = errors.New("not understood: the two nodes run different versions")

// Errors of a start.
var (
	// ErrJoined means that Start was called twice.
	ErrJoined = errors.New("the node has joined already")
)
