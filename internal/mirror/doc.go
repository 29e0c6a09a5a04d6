// Package mirror decides, for each request, where content comes from and what is remembered. It is the only package that
// knows that a cache, a catalog and upstreams exist together; those do not know each other. It holds decisions, not
// mechanisms: what to serve, what to ask upstream, what to link, when a tag is fresh, when stale content may be served.
//
// A digest is not a capability. Before content is served through a repository, the repository must be linked to it: its
// bytes came through this repository, or the upstream confirmed that the repository holds it, or, when no upstream at all is
// read with credentials, a manifest of the repository names it.
package mirror
