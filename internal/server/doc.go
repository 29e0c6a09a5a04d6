// Package server answers the registry API: it turns raw requests into domain values, asks the mirror, and puts
// answers and errors into the words of the distribution specification.
//
// Requests for what is in memory are answered by quick.go before fasthttp sees them; front.go reads them, and passes all others on.
// Any other request passes through the steps in server.go, is understood by route.go and resolve.go, and is answered by the
// file of its kind: blob.go, manifest.go, tags.go or referrers.go. Errors become answers in respond.go and nowhere
// else. The body is written by body.go after the handler has returned; from then on the only way to report a failure
// is a short body and an orderly end of the connection.
//
// Nothing of fasthttp leaves this package, and nothing that borrows from its buffers outlives a handler. Everything
// here is lost in a crash, and nothing of it is missed.
package server
