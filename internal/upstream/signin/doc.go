// Package signin obtains credentials for registries from the clouds that run them: Amazon ECR, Google Artifact Registry
// and Azure Container Registry. It speaks the few calls that takes, without any cloud's SDK.
//
// A provider's configuration makes a Source, and a Source fetches one credential with its life. Nothing is cached here:
// who uses a Source remembers what it gave, and asks again before that ends. What the platform offers is found in the
// order in which the cloud's own tools look: environment, files, metadata service.
//
// No secret is in an error: of what a service answers only its error code is repeated, and its message after every
// secret that was sent has been cut out. Redirects are refused, so that what is sent arrives at the host that was meant.
// After a crash nothing of this package is left behind.
package signin
