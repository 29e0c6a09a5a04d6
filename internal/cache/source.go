package cache

import (
	"context"
	"io"
	"time"

	"mirror/internal/oci"
)

// FillFunc opens the source of a fill at want.Start. It is called for each fetch, from several goroutines, with a context
// that ends when the fetch is no longer wanted. It does its own retries before the first byte; its error ends that
// fetch, and the fill when nothing else makes progress.
type FillFunc func(ctx context.Context, want Span) (*Stream, error)

// Stream is what a source delivers for one fetch.
type Stream struct {
	// Moving reports whether bytes are on their way from the source. It is called from any goroutine until Body is closed. Nil
	// means that they are, once the stream is there; a source that answers before it has anything says so here, and is not
	// taken for a stalled one as long as it does.
	Moving func() bool
	// Body is read until the fetch has what it wants, and closed. A body that breaks off must end with an error other
	// than io.EOF, and a read must end when the context of its FillFunc does.
	Body io.ReadCloser
	// Start is the offset of Body's first byte: the one asked for, or 0 from a source that has no ranges.
	Start int64
	// Size is the length of the whole content, or -1 when the source does not tell.
	Size int64
	// Whole: Body goes on to the end of the content, although less was asked for: the source has no ranges.
	Whole bool
	// Reject tells the source that what came is no good: too little in too much time, or other bytes than the digest names.
	// The next call then begins at another place, if there is one. Nil when that is nobody's concern.
	Reject func()
}

// reject calls Reject. It works on nil.
func (s *Stream) reject() {
	if s != nil && s.Reject != nil {
		s.Reject()
	}
}

// waiting reports whether the source has nothing to deliver yet, and knows it: no bytes for a while mean nothing then.
func (s *Stream) waiting() bool { return s.Moving != nil && !s.Moving() }

// watch returns a timer that calls stalled when the source delivers nothing for stallTimeout although it should. Reads by
// receive reset it.
func (s *Stream) watch(stalled func()) *time.Timer {
	var timer *time.Timer
	timer = time.AfterFunc(stallTimeout, func() {
		if s.waiting() {
			timer.Reset(stallTimeout)
			return
		}
		stalled()
	})
	timer.Reset(stallTimeout) // which orders the assignment before the call
	return timer
}

// receive reads what the source delivers, watched while it is waited for: that a disk or a client takes its time between
// two reads is not the source's fault.
func (s *Stream) receive(b []byte, watch *time.Timer) (int, error) {
	watch.Reset(stallTimeout)
	n, err := s.Body.Read(b)
	watch.Stop()
	return n, err
}

// reading returns how much of the time since begin, when a read began, counts as that of a source that delivers: not a wait
// that was so long that the source has said it is one.
func (s *Stream) reading(begin time.Time) time.Duration {
	took := time.Since(begin)
	if s.Moving != nil && took > stallTimeout {
		return 0
	}
	return took
}

// everything reports whether more comes than was asked for, because the source has no ranges.
func (s *Stream) everything(want Span) bool {
	return s.Whole && want.End >= 0 || s.Start < want.Start
}

// Request describes a fill.
type Request struct {
	Digest oci.Digest
	// Size is the length in bytes, or -1. A source that announces another one is refused.
	Size int64
	// Hint is a length in bytes that somebody claims whose word is not enough, or zero. It stands in when the source
	// tells no length; when the source tells another, nothing goes out before the verdict.
	Hint int64
	From FillFunc
	// Fetches is how many fetches may run at once; at least 1.
	Fetches int
	// Chunk is the length in bytes of the pieces that content is fetched in, each by a fetch of its own: no wish crosses a
	// multiple of it, whatever the source. Zero leaves the lengths to the fill, which goes by what it measures.
	Chunk int64
	// Verdict, if set, is told each time that the content was complete and compared with its digest: the bytes, and whether
	// they are right. It is called once for each verdict, before wrong bytes are discarded and before right ones are stored, and
	// may take as long as reading them; content is valid until it returns.
	Verdict func(content io.ReaderAt, size int64, right bool)
}
