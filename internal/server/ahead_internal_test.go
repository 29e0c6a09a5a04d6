package server

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// calls counts the reads of a source that has one piece for each.
type calls struct {
	pieces [][]byte
	made   int
}

func (c *calls) Read(p []byte) (int, error) {
	c.made++
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func TestAheadReadsARequestAtOnce(t *testing.T) {
	first, second := []byte("GET /v2/ HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte("x"), 3*aheadRoom)
	source := &calls{pieces: [][]byte{first, second}}
	var a ahead
	read := func(n int) string {
		t.Helper()
		p := make([]byte, n)
		got, err := a.read(source, p)
		if err != nil {
			t.Fatal(err)
		}
		return string(p[:got])
	}
	if got := read(1) + read(4096); got != string(first) || source.made != 1 {
		t.Errorf("got %q in %d calls, want the request in one", got, source.made)
	}
	// One that is longer than the room loses nothing, and what is read in pieces goes straight to the reader's buffer.
	got := read(1) + read(2*aheadRoom) + read(4*aheadRoom)
	if got != string(second) || source.made != 3 {
		t.Errorf("got %d bytes in %d calls, want %d in 3", len(got), source.made, len(second))
	}
	for _, n := range []int{1, 100} {
		if _, err := a.read(source, make([]byte, n)); !errors.Is(err, io.EOF) {
			t.Errorf("error at the end is %v, want %v", err, io.EOF)
		}
	}
}
