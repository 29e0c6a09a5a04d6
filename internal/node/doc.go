// Package node is one running mirror: it builds the parts from a configuration, starts them in order, and stops them in
// the opposite order. The program and the tests start the same thing, and two nodes can live in one process.
package node
