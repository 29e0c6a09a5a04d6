package server

import "io"

// aheadRoom is how many bytes of a request are read along with its first: the whole of it, mostly. Idle connections keep the
// room, so it is no larger than that.
const aheadRoom = 1 << 10

// ahead makes reading one byte worth its system call. fasthttp gives the buffers of idle connections back, and reads the
// first byte of the next request alone so that it needs none while it waits; the rest then costs a second call, which a
// small hit feels. One goroutine at a time reads.
type ahead struct {
	room       [aheadRoom]byte
	next, have int // room[next:have] was read and not handed out
}

// read is a Read of source.
func (a *ahead) read(source io.Reader, p []byte) (int, error) {
	if a.next == a.have && len(p) != 1 {
		return source.Read(p)
	}
	if a.next == a.have {
		n, err := source.Read(a.room[:])
		a.next, a.have = 0, max(n, 0)
		if n <= 0 {
			return 0, err
		}
		// An error that came with bytes comes again with the next call.
	}
	n := copy(p, a.room[a.next:a.have])
	a.next += n
	return n, nil
}
