package server

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// copyBuffer is the length in bytes of the writes to a TLS connection. Through fasthttp's own buffer of 4 KiB each
// write would be a TLS record of that size, at less than half the speed.
const copyBuffer = 256 << 10

// stream is what fasthttp's buffer over a connection can do beyond writing.
type stream interface {
	io.Writer
	io.ReaderFrom
	Flush() error
}

// fileSender is a connection that sends parts of files without copying.
type fileSender interface {
	SendFile(file *os.File, off, n int64) (int64, error)
}

// fileStream is a buffer over such a connection.
type fileStream struct {
	stream
	files fileSender
}

// streamOver returns what can send files to conn behind what w, a buffer over it, holds; false when one of them cannot.
func streamOver(conn net.Conn, w io.Writer) (fileStream, bool) {
	s, buffered := w.(stream)
	files, plain := conn.(fileSender)
	return fileStream{s, files}, buffered && plain
}

// SendFile sends a part of a file past the buffer, once that is empty.
func (s fileStream) SendFile(file *os.File, off, n int64) (int64, error) {
	if err := s.Flush(); err != nil {
		return 0, err
	}
	return s.files.SendFile(file, off, n)
}

// meter counts what goes to a connection, holds it to the declared length, and keeps whether the connection broke.
type meter struct {
	server *Server
	rec    *record
	out    io.Writer
	// left is how many bytes may still be written.
	left   int64
	begun  bool
	broken bool
}

// writer returns the form of the meter that keeps what the connection can do. A chunked body can only be written to:
// its frames would be lost otherwise.
func (m *meter) writer(conn net.Conn) io.Writer {
	if s, ok := streamOver(conn, m.out); ok {
		return fileMeter{m, s}
	}
	if s, ok := m.out.(stream); ok {
		return copyMeter{m, s}
	}
	return m
}

// Write passes p on.
func (m *meter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > m.left {
		return 0, errTooLong
	}
	m.begin()
	n, err := m.out.Write(p)
	m.wrote(int64(n))
	m.broken = m.broken || err != nil
	return n, err
}

// begin observes the first byte.
func (m *meter) begin() {
	if !m.begun {
		m.begun = true
		m.server.metrics.firstByte(m.rec)
	}
}

func (m *meter) wrote(n int64) {
	m.left -= n
	m.rec.sent += n
	m.server.metrics.served(m.rec, n)
}

// bounded cuts a reader to what may still be written. A reader that is bounded already is passed on as it is:
// the kernel passes on what comes from a connection without copying only when it sees that behind one limit.
func (m *meter) bounded(r io.Reader) io.Reader {
	if l, ok := r.(*io.LimitedReader); ok && l.N <= m.left {
		return r
	}
	return &io.LimitedReader{R: r, N: m.left}
}

// flush empties the buffer.
func (m *meter) flush(buffer stream) error {
	err := buffer.Flush()
	m.broken = m.broken || err != nil
	return err
}

// fileMeter is a meter over a plain connection, to which nothing need be copied.
type fileMeter struct {
	*meter
	out fileStream
}

// Flush empties the buffer.
func (m fileMeter) Flush() error { return m.flush(m.out) }

// SendFile sends a part of a file past the buffer, up to the declared length.
func (m fileMeter) SendFile(file *os.File, off, n int64) (int64, error) {
	m.begin()
	return m.sent(m.out.SendFile(file, off, min(n, m.left)))
}

// ReadFrom sends what r holds, up to the declared length.
func (m fileMeter) ReadFrom(r io.Reader) (int64, error) {
	m.begin()
	return m.sent(m.out.ReadFrom(m.bounded(r)))
}

// sent counts what went past Write.
func (m *meter) sent(n int64, err error) (int64, error) {
	m.wrote(n)
	m.broken = m.broken || err != nil && !readFault(err)
	return n, err
}

// readFault reports whether an error of a copy is the file's and not the connection's.
func readFault(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok || errors.Is(err, syscall.EIO)
}

// copyMeter is a meter over a TLS connection, where every byte passes through memory anyway: in large pieces.
type copyMeter struct {
	*meter
	out stream
}

// Flush empties the buffer.
func (m copyMeter) Flush() error { return m.flush(m.out) }

// ReadFrom sends what r holds, up to the declared length.
func (m copyMeter) ReadFrom(r io.Reader) (int64, error) {
	buffer := m.server.buffers.Get().(*[]byte)
	defer m.server.buffers.Put(buffer)
	// The meter alone hides the buffer's own ReadFrom, which would copy in small pieces.
	return io.CopyBuffer(m.meter, m.bounded(r), *buffer)
}
