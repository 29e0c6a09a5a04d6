// Command memory compares a hit in the memory tier with one that is sent from the page cache, for blobs of many sizes, and
// prints the table of docs/decisions/0010-memory-tier.md:
//
//	go run ./bench/memory [-rounds 7] [-round 200ms]
//
// Both are hits of the real cache, written to a TCP connection over loopback. The client is a process of its own that
// drops what it gets, so that the CPU time is that of the sender.
package main
