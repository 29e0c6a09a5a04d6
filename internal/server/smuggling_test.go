package server_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// TestBodyIsNeverTheNextRequest sends bodies that look like requests. Whatever the server makes of the first request,
// it must not answer the one in the body.
func TestBodyIsNeverTheNextRequest(t *testing.T) {
	h := newHarness(t)
	inner := request("GET", "/smuggled")
	chunked := "1000\r\n" + inner + strings.Repeat("x", 0x1000-len(inner)) + "\r\n0\r\n\r\n"
	f := func(name, raw string) {
		t.Helper()
		c := h.dial()
		go c.send(raw)
		answers := readAll(c)
		if len(answers) != 1 {
			t.Errorf("%s: got %d answers, want 1", name, len(answers))
		}
		_ = c.Close()
	}
	f("a large body on GET", request("GET", "/v2/", "Content-Length: 100000")+strings.Repeat("x", 20000)+inner+strings.Repeat("x", 80000-len(inner)))
	f("a body on POST", request("POST", "/v2/", "Content-Length: 100000")+inner+strings.Repeat("x", 100000-len(inner)))
	f("a chunked body on GET", request("GET", "/v2/", "Transfer-Encoding: chunked")+chunked+inner)
	f("a chunked body on POST", request("POST", "/v2/", "Transfer-Encoding: chunked")+chunked)
	f("a chunked body with a length", request("GET", "/v2/", "Transfer-Encoding: chunked", "Content-Length: 3")+"0\r\n\r\n"+inner)
	f("an identity coding with a length", request("GET", "/v2/", "Transfer-Encoding: identity", "Content-Length: 0")+inner)
	f("two lengths", request("GET", "/v2/", "Content-Length: 0", "Content-Length: 50")+inner)
	f("an odd coding", request("GET", "/v2/", "Transfer-Encoding: xchunked")+chunked)
	f("a coding in HTTP/1.0", "GET /v2/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"+chunked)
	f("an expectation on PUT", request("PUT", "/v2/", "Content-Length: 5", "Expect: 100-continue")+inner)
	if got := len(h.logs.lines("smuggled")); got != 0 {
		t.Errorf("the inner request left %d lines in the log", got)
	}
}

// TestSmallBodyIsSkipped checks that a body which is read leaves the connection usable, at the right place.
func TestSmallBodyIsSkipped(t *testing.T) {
	h := newHarness(t)
	c := h.dial()
	inner := request("GET", "/smuggled")
	c.send(request("GET", "/v2/", "Content-Length: "+strconv.Itoa(len(inner))) + inner + request("GET", "/v2/"))
	c.read("GET").want(t, 200)
	c.read("GET").want(t, 200)
}

// readAll reads responses until the connection ends, or the last one is an error that keeps it open.
func readAll(c *client) []answer {
	var answers []answer
	for {
		response, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return answers
		}
		body, err := io.ReadAll(response.Body)
		answers = append(answers, answer{response, body, err})
	}
}

// TestRefusalReachesAClientThatIsStillSending checks the orderly end: a client that has more to send than the server
// reads still gets the answer, and not a reset.
func TestRefusalReachesAClientThatIsStillSending(t *testing.T) {
	h := newHarness(t)
	for _, method := range []string{"POST", "PUT", "PATCH"} {
		c := h.dial()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			c.send(request(method, "/v2/org/app/blobs/uploads/", "Content-Length: 500000") + strings.Repeat("x", 500000))
		}()
		c.read(method).want(t, 405)
		if !c.ended() {
			t.Errorf("%s: the connection ends in a reset", method)
		}
		<-sent
	}
}
