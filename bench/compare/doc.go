// Command compare measures the mirror beside what one would use otherwise, in one run:
//
//	go run ./bench/compare [-profile short|full] [-only PATTERN] [-targets PATTERN] [-out DIR]
//
// The servers run on one core and everything else on another: the clients, and the registry that the servers pull from. It
// needs Linux, two cores, root (for a network namespace with another congestion control) and the programs that
// bench/install brings. bench/README.md says what is measured, and how the results are to be read.
//
// main.go plans, pass.go measures in a process of its own for each network, targets.go has the servers, scenarios.go what
// they are asked, and result.go, table.go and plot.go write what came of it.
package main
