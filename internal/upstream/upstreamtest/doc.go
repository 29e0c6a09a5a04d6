// Package upstreamtest is a registry for tests: it runs on loopback, keeps its content in memory, counts what it is
// asked, and misbehaves on request.
//
//	origin := upstreamtest.New(t)
//	image := origin.AddImage("library/debian", "12", 1<<20, 4096) // two layers
//	origin.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{CutAfter: 1000})
//	// … pull through the mirror from origin.URL …
//	origin.Count(upstreamtest.Blob, "GET") // how often it was asked
//	origin.Sent(image.Layers[0].Digest)    // how many bytes of that layer it sent
//
// Without faults it answers like a registry of the distribution specification: HEAD and single ranges, digests and
// lengths in headers, tags with paging, referrers. RequireToken and RequireBasic put authentication before it, UseCDN
// makes it send blob requests on to a second server, Stop and Start take it off the network and back under the same
// address. All methods may be called at any time from any goroutine. The registry stops when the test ends.
package upstreamtest
