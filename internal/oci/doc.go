// Package oci holds the nouns of the OCI specifications as Go values: digest, reference, repository, descriptor,
// manifest and error code. Every value is valid by construction: text from outside is checked once, by a Parse
// function, and never again further in. The package knows no HTTP and imports only the standard library.
package oci
