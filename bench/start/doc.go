// Command start measures how a node starts on a data directory that is full already: how long it takes until it is ready,
// what memory each blob costs, how long a lookup takes, and what the search for files without a record costs afterwards.
//
//	go run ./bench/start [-blobs 1000000] [-files] [-watch 2m]
//
// It makes the data directories in a temporary directory and starts the node in a process of its own for each figure, so
// that nothing is measured but the node. README.md in the directory above says what the columns mean.
package main
