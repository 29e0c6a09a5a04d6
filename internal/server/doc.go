// Package server answers the registry API: it turns raw requests into domain values, asks the mirror, and puts
// answers and errors into the words of the distribution specification.
//
// attend.go waits for the requests of each connection, front.go reads them, and quick.go answers those for what is here as it
// is. The connection is lent to fasthttp for any other: that request passes through the steps in server.go, is understood by route.go and resolve.go, and is answered by the
// file of its kind: blob.go, manifest.go, tags.go or referrers.go. Errors become answers in respond.go and nowhere
// else. The body is written by body.go after the handler has returned; from then on the only way to report a failure
// is a short body and an orderly end of the connection.
//
// Nothing of fasthttp leaves this package, and nothing that borrows from its buffers outlives a handler. Everything
// here is lost in a crash, and nothing of it is missed.
package server
