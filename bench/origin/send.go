package origin

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"mirror/internal/oci"
)

// sender writes one blob at the rates of the link.
type sender struct {
	link       Link
	faults     Faults
	whole, own *pace
	sent       *atomic.Int64
}

// step is how many bytes go at once over a link with a rate, and openStep over an open one, where the kernel copies.
const (
	step     = 64 << 10
	openStep = 4 << 20
)

// send writes n bytes of r and counts them as they go. A blob that is cut ends with its connection.
func (s sender) send(w io.Writer, r io.Reader, n, number int64) {
	most := s.faults.most(number, n)
	piece := int64(step)
	if s.link.open() {
		piece = openStep
	}
	for left := most; left > 0; {
		wrote, err := io.CopyN(w, r, min(piece, left))
		s.sent.Add(wrote)
		if err != nil {
			return
		}
		left -= wrote
		s.wait(wrote)
	}
	if most < n {
		panic(http.ErrAbortHandler) // how net/http is told to cut a connection
	}
}

func (s sender) wait(n int64) {
	until := s.own.book(n, s.link.Each)
	if all := s.whole.book(n, s.link.All); all.After(until) {
		until = all
	}
	time.Sleep(time.Until(until))
}

func digestOf(text []byte) string { return oci.DigestOf(oci.SHA256, text).String() }
