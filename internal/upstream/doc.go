// Package upstream speaks to remote registries politely: authenticated, limited, and quiet when they are down.
//
// A Set holds one Registry per configured upstream. A Registry has one or more endpoints, each with a breaker, and
// answers five questions: what a reference names now (HeadManifest), what a manifest says (Manifest), the bytes of a
// blob (HeadBlob, Blob), which tags there are (Tags), and what refers to a digest (Referrers). Nothing is cached here
// but what makes the next request cheaper: tokens, challenges and what an upstream cannot do. Redirects are followed
// by hand, so that credentials never leave the host they were configured for. A place that one leads to is remembered for
// no longer than the Download of one blob.
//
// What the mirror shows to a registry comes from a source, which is a file, a helper or a cloud (package signin), and is
// held by credentials: fetched once however many wait, refreshed ahead of its end while it is in use, given up when the
// registry refuses it. It is shown to the endpoints and to token services in their domain or on the operator's list.
//
// What an upstream tells of its rate limit is kept (quota.go reads it, allowance.go remembers it), and a limit that is
// used up is not run into again: the request is not sent. Budget tells callers how much is left, and Spare
// how much may be fetched that nobody waits for. Condition sums all of this up for operators, without a secret.
//
// Every error names its upstream and matches one of the sentinels in errors.go. After a crash nothing of this package
// is left behind.
package upstream
