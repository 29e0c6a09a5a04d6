// Command pull compares a cold pull through the mirror with a pull straight from the registry, over links of set latency
// and rates. The registry is its own, on loopback, and counts what it sends.
package main
