// Package netlab runs a fleet of mirrors as real processes, each with a network of its own: a Linux network namespace behind
// a link of a chosen rate. One namespace more holds a registry with a latency, a rate for each connection and one in all.
// Nodes are killed, stopped and cut off as machines are.
//
// It needs root and the commands ip and tc of Debian's iproute2. There is one lab at a time on a machine: its namespaces have
// names that begin with "mir-", and what a lab that was interrupted has left is removed by the next. It knows the mirror by its
// contract alone: its commands, configuration keys and metrics.
package netlab
