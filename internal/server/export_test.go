package server

import (
	"net"
	"time"
)

// QuickAnswers answers one request again and again, as its bytes came, by what answers hits in memory.
type QuickAnswers struct {
	front front
	out   sink
	raw   string
}

// NewQuick returns what offers a request to the server's quick answers.
func NewQuick(s *Server, raw string) *QuickAnswers {
	q := &QuickAnswers{raw: raw}
	q.front = front{conn: &q.out, own: new(conn), rooms: &s.rooms, server: s}
	q.front.enter()
	return q
}

// Answer returns the answer, nil when the request was left to fasthttp.
func (q *QuickAnswers) Answer() []byte {
	n := copy(q.front.room.in[:], q.raw)
	if took, err := q.front.server.answerQuickly(&q.front, q.front.room.in[:n]); took != len(q.raw) || err != nil {
		return nil
	}
	return q.out.sent
}

// Quick is NewQuick for one answer.
func Quick(s *Server, raw string) []byte { return NewQuick(s, raw).Answer() }

// sink is a connection that keeps what was written last.
type sink struct {
	net.Conn
	sent []byte
}

func (s *sink) Write(p []byte) (int, error) {
	s.sent = append(s.sent[:0], p...)
	return len(p), nil
}

func (s *sink) RemoteAddr() net.Addr { return nil }

func (s *sink) SetReadDeadline(time.Time) error { return nil }

// Renewed is when the connection's time without a request last began.
func (q *QuickAnswers) Renewed() time.Time { return q.front.renewed }

// SetRenewed says that it was at t.
func (q *QuickAnswers) SetRenewed(t time.Time) { q.front.renewed = t }

// Busy is how many connections have a request that is not answered.
func Busy(s *Server) (busy int) {
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	for c := range s.crowd.conns {
		if c.phase.Load() == phaseBusy {
			busy++
		}
	}
	return busy
}
