package server

import (
	"net"
	"time"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// method is the label and the word of a request's method. Strangers choose methods, so all but two are one.
type method uint8

const (
	methodOther method = iota
	methodGet
	methodHead
	methods // how many there are
)

// String returns "other", "GET" or "HEAD".
func (m method) String() string { return [methods]string{"other", "GET", "HEAD"}[m] }

// record is what metrics and access log keep of one request. It outlives the handler, so it borrows nothing from the
// connection's buffers. One goroutine at a time uses it: the handler, then the body, then the access log.
type record struct {
	request    string
	client     net.Addr
	method     method
	kind       kind
	repository oci.Repository
	reference  oci.Reference
	status     int
	// found says that outcome and source hold what the mirror said of a lookup.
	found   bool
	outcome mirror.Outcome
	source  mirror.Source
	started time.Time
	// duration is from the first look at the request to the end of the answer.
	duration time.Duration
	// sent is how many bytes of the body went out.
	sent int64
	// err is why the answer is no success, or why it ended early.
	err error
	// cut says who ended the body early.
	cut cutter
}

// cutter is who is to blame for a short body.
type cutter uint8

const (
	cutByNobody cutter = iota
	cutByClient
	cutByContent
)

// foundAt keeps the answer of a lookup.
func (r *record) foundAt(outcome mirror.Outcome, source mirror.Source) {
	r.found, r.outcome, r.source = true, outcome, source
}
