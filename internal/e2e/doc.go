// Package e2e holds the tests that run the mirror program as its users do: the built binary between a real registry and
// real clients (Docker, containerd, podman, skopeo), with real images. They know the mirror only by its contract: its
// commands, configuration keys, headers and metrics.
//
// The tests carry the build tag e2e, need root on Linux, and stay on the loopback interface. The script install in this
// directory fetches the programs they run from Debian; a missing program is a failure. What is dear to build and never
// changes, a Debian root file system, is kept in ${XDG_CACHE_HOME:-/var/cache}/mirror-e2e between runs.
//
// Between the mirror and the registry stands a gate: a reverse proxy that counts what crosses it, has the latency and
// rate of a distant registry, and breaks on demand.
package e2e
