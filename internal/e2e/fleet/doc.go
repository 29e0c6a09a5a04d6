// Package fleet holds the tests that run many mirrors as one cluster, in network namespaces of their own (netlab): what the
// registry is asked for, and what becomes of pulls while nodes and links fail. How long things take is logged, and measured by
// the command bench/fleet; a test fails only when something takes several times as long as it should.
//
// The tests carry the build tag e2e and need root and iproute2. They run one after the other, because there is one lab.
package fleet
