// Command idle measures what membership costs a node that does nothing: real processes in network namespaces
// (internal/e2e/netlab) that know each other and are asked for nothing. Half of them hold many blobs, the others none: gossip
// carries members and nothing that grows with what they hold. It needs root and iproute2.
package main
