// Package origin is the registry that benchmarks pull from: deterministic images in a directory, served over a link of set
// latency and rates, with faults on request, and counted. It serves loopback and checks nothing that a client sends.
package origin
