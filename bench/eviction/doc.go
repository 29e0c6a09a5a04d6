// Command eviction compares eviction policies on traces like those of a registry mirror, and prints the table of
// docs/decisions/0009-eviction.md. The traces are made from a seed, so every run prints the same:
//
//	go run ./bench/eviction
package main
