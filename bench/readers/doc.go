// Command readers measures what it costs to serve one layer to thousands of clients while it arrives: the memory of the
// server beyond what it takes when it is idle, its CPU time, and how many bytes it asks the upstream for.
//
//	go run ./bench/readers [-readers 10000] [-size 32MiB] [-rate 1MiB]
//
// Registry, server and clients are three processes that talk TCP over loopback, so that what is measured is the server
// alone. The clients drop what they get without looking at it, which costs them next to nothing.
package main
