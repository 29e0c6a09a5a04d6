package drain

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Request is one request over a kept connection, and what its answer must be.
type Request struct {
	Method string // GET when empty
	Path   string
	Accept string // the value of an Accept header; none when empty
	Range  string // the value of a Range header; none when empty
	Status int    // 200 when zero
}

// bytes is the request as it is sent to host.
func (r Request) bytes(host string, last bool) []byte {
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, r.Path, host)
	if r.Accept != "" {
		b = fmt.Appendf(b, "Accept: %s\r\n", r.Accept)
	}
	if r.Range != "" {
		b = fmt.Appendf(b, "Range: %s\r\n", r.Range)
	}
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	return append(b, "\r\n"...)
}

func (r Request) status() int {
	if r.Status == 0 {
		return http.StatusOK
	}
	return r.Status
}

var (
	endOfHead     = []byte("\r\n\r\n")
	contentLength = []byte("\ncontent-length: ")
	errNoLength   = errors.New("answer has no Content-Length")
)

// bodyLength takes a head apart, as far as a benchmark needs it: the status and the length of the body that follows.
func (r Request) bodyLength(head []byte) (int64, error) {
	if len(head) < len("HTTP/1.1 200") {
		return 0, fmt.Errorf("answer is %q", head)
	}
	if status, err := strconv.Atoi(string(head[9:12])); err != nil || status != r.status() {
		line, _, _ := bytes.Cut(head, endOfHead[:2])
		return 0, fmt.Errorf("%s %s: answer is %q, want %d", r.Method, r.Path, line, r.status())
	}
	if r.Method == http.MethodHead {
		return 0, nil
	}
	at := indexFold(head, contentLength)
	if at < 0 {
		return 0, errNoLength
	}
	text, _, _ := bytes.Cut(head[at+len(contentLength):], endOfHead[:1])
	return strconv.ParseInt(string(text), 10, 64)
}

// indexFold finds a header name, however it is written, without an allocation. name is in lower case.
func indexFold(head, name []byte) int {
	for from := 0; ; {
		line := bytes.IndexByte(head[from:], '\n')
		if line < 0 {
			return -1
		}
		from += line
		if len(head)-from >= len(name) && bytes.EqualFold(head[from:from+len(name)], name) {
			return from
		}
		from++
	}
}
