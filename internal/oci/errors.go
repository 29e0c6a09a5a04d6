package oci

// Code is an error code of the distribution specification, as it stands in the body of an error answer.
type Code string

// The codes that this program answers with. Unavailable and Unknown are no codes of the specification, which fixes
// codes for 4xx answers only; they are used with 5xx, as the reference implementation does.
const (
	BlobUnknown     Code = "BLOB_UNKNOWN"
	ManifestUnknown Code = "MANIFEST_UNKNOWN"
	ManifestInvalid Code = "MANIFEST_INVALID"
	NameUnknown     Code = "NAME_UNKNOWN"
	NameInvalid     Code = "NAME_INVALID"
	DigestInvalid   Code = "DIGEST_INVALID"
	SizeInvalid     Code = "SIZE_INVALID"
	Unsupported     Code = "UNSUPPORTED"
	Unauthorized    Code = "UNAUTHORIZED"
	Denied          Code = "DENIED"
	TooManyRequests Code = "TOOMANYREQUESTS"
	Unavailable     Code = "UNAVAILABLE"
	Unknown         Code = "UNKNOWN"
)

// Error is what is wrong with something that somebody sent, in the specification's words. Message is for people and
// says what would be right.
type Error struct {
	Code    Code
	Message string
}

// Error returns the message with its code.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }
