// Package drain is the client of benchmarks: it asks over HTTP/1.1 and has the kernel drop the bodies (MSG_TRUNC), so that
// a core of clients takes more than a core of server can send. It knows the answers of well-behaved servers, with a
// Content-Length, and takes everything else for a failure.
package drain
