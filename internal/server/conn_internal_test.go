package server

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// sliceSpy records what it is given to read from.
type sliceSpy struct {
	bytes.Buffer
	readers []*io.LimitedReader
	lengths []int64
}

func (s *sliceSpy) ReadFrom(r io.Reader) (int64, error) {
	l := r.(*io.LimitedReader)
	s.readers, s.lengths = append(s.readers, l), append(s.lengths, l.N)
	return s.Buffer.ReadFrom(r)
}

// TestCopySlices checks that a file arrives behind one limit alone, which is the form that the kernel sends without
// copying, in slices that each get a deadline.
func TestCopySlices(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), (2*writeSlice+1000)/16)
	file := tempFile(t, content)
	f := func(source io.Reader, want []byte, slices ...int64) {
		t.Helper()
		spy, armed := new(sliceSpy), 0
		n, err := copySlices(spy, source, func() error { armed++; return nil })
		if err != nil || n != int64(len(want)) || !bytes.Equal(spy.Bytes(), want) || armed != len(slices) {
			t.Fatalf("got %d bytes, %v, %d deadlines; want %d bytes, %d deadlines", n, err, armed, len(want), len(slices))
		}
		for i, l := range spy.readers {
			if spy.lengths[i] != slices[i] {
				t.Errorf("slice %d has %d bytes, want %d", i, spy.lengths[i], slices[i])
			}
			if _, ok := l.R.(*os.File); !ok {
				t.Errorf("slice %d reads from %T, want the file itself", i, l.R)
			}
		}
	}
	rewind := func() { _, _ = file.Seek(0, io.SeekStart) }
	f(&io.LimitedReader{R: file, N: 1000}, content[:1000], 1000)
	rewind()
	f(&io.LimitedReader{R: file, N: 2*writeSlice + 5}, content[:2*writeSlice+5], writeSlice, writeSlice, 5)
	rewind()
	f(&io.LimitedReader{R: file, N: writeSlice}, content[:writeSlice], writeSlice)
	rewind()
	f(&io.LimitedReader{R: file, N: 1 << 40}, content, writeSlice, writeSlice, writeSlice)
	rewind()
	f(file, content, writeSlice, writeSlice, writeSlice)
	f(&io.LimitedReader{R: file, N: 0}, nil)
}

// turns takes all slices at once and notes whose they were.
type turns struct {
	name byte
	mu   *sync.Mutex
	log  *[]byte
}

func (u turns) ReadFrom(r io.Reader) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*u.log = append(*u.log, u.name)
	return r.(*io.LimitedReader).N, nil
}

// TestSlicesByTurns: of two clients that take everything at once, neither keeps the only processor until it has all.
func TestSlicesByTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const slices = 8
	var log []byte
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, name := range []byte("ab") {
		wg.Go(func() {
			_, _ = copySlices(turns{name, &mu, &log}, &io.LimitedReader{N: slices * writeSlice}, func() error { return nil })
		})
	}
	wg.Wait()
	if one := bytes.Repeat(log[:1], slices); len(log) != 2*slices || bytes.HasPrefix(log, one) {
		t.Errorf("slices were sent in the order %q", log)
	}
}

func tempFile(t *testing.T, content []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// TestWriteDeadlineFromOutside checks that the deadline of a slice does not extend one that TLS has set.
func TestWriteDeadlineFromOutside(t *testing.T) {
	server, _ := tcpPair(t)
	own, _ := testCrowd(1, 1).admit(server)
	if err := own.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: got %v", err)
	}
	if err := own.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := own.Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("without a deadline: got %d, %v", n, err)
	}
	if n, err := own.Write(nil); n != 0 || err != nil {
		t.Errorf("nothing: got %d, %v", n, err)
	}
}

// TestDeadlineOfASlice: a deadline that is nearly as far away as it should be stays, one that is nearer does not.
func TestDeadlineOfASlice(t *testing.T) {
	server, _ := tcpPair(t)
	own, _ := testCrowd(1, 1).admit(server)
	patience := own.crowd.patience
	f := func(what string, left time.Duration, renewed bool) {
		t.Helper()
		before := time.Now().Add(left).UnixNano()
		own.armed.Store(before)
		if err := own.arm(); err != nil {
			t.Fatal(err)
		}
		if after := own.armed.Load(); (after != before) != renewed || after < time.Now().Add(patience*3/4).UnixNano() {
			t.Errorf("%s: the deadline went from %v to %v", what, time.Unix(0, before), time.Unix(0, after))
		}
	}
	f("as far as can be", patience, false)
	f("a little nearer", patience*15/16, false)
	f("nearer", patience*3/4, true)
	f("in the past", -time.Second, true)
	if err := own.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if own.armed.Load() != 0 {
		t.Error("a deadline that was taken away counts as one of a slice")
	}
}

// TestLingeringCloseIsNoReset closes with bytes unread: the other end must read to an orderly end.
func TestLingeringCloseIsNoReset(t *testing.T) {
	server, client := tcpPair(t)
	own, _ := testCrowd(1, 1).admit(server)
	if _, err := client.Write(make([]byte, 100000)); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	lingerOf(own)
	closed := make(chan error, 1)
	go func() { closed <- own.Close() }()
	got, err := io.ReadAll(client)
	if err != nil || string(got) != "answer" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = client.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
