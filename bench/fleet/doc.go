// Command fleet measures a fleet of mirrors that pull one layer at the same time: real processes in network namespaces
// (internal/e2e/netlab), each behind a link of 100 Mbit/s, and a registry that sends 100 Mbit/s in all and 25 Mbit/s over one
// connection. Without -scenario it runs all and prints a table. It needs root and iproute2, and minutes on which nothing else
// uses the machine.
package main
