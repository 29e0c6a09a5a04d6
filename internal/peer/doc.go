// Package peer knows the other nodes of a cluster: who they are, which of them owns a chunk or a tag, and whether what
// comes in was sent by one of them.
//
// A Group is this node among its peers. Membership is memberlist's, and nothing else travels by gossip: each member tells
// its zone, its transfer address and whether it can own something, in about 30 bytes. View returns what is known
// at one moment, a small value that never changes.
//
// Placement (Ranking) is a pure function of the members' names and a Key. All nodes order any two members in the same way,
// whatever else they know, so a request that only ever goes up that order ends.
//
// Members prove to each other that they know the secret of the cluster: gossip is encrypted with one key derived from it,
// requests and the answers about tags are signed with another (Sign, Verify).
//
// Nothing is written to disk, so a crash leaves nothing behind; the other members notice within some seconds. DESIGN.md says
// why things are as they are.
package peer
