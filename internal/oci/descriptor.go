package oci

// Descriptor points at content: what it is, its digest, how long it is in bytes.
type Descriptor struct {
	MediaType string
	Digest    Digest
	Size      int64
}
