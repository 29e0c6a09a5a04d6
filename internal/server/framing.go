package server

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"mirror/internal/oci"
)

// checkFraming refuses a request whose length could be read in two ways, and ends the connection after one whose
// length is in its body. A proxy in front that reads the length differently would otherwise take the rest of the body
// for the next request of somebody else, or the other way round.
func checkFraming(x *exchange) error {
	length, coded := framing(x.ctx.Request.Header.RawHeaders())
	if coded && length {
		return &refusal{status: 400, code: oci.Unsupported, hangUp: true,
			message: "the request has both Content-Length and Transfer-Encoding: send one of them"}
	}
	if coded {
		x.hangUp()
	}
	return nil
}

// framing reports which headers about length a request has. It reads the raw lines because fasthttp forgets
// Content-Length when the other one is there.
func framing(raw []byte) (length, coded bool) {
	for len(raw) > 0 {
		var line []byte
		line, raw, _ = bytes.Cut(raw, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		switch line[0] | 0x20 {
		case 'c':
			length = length || isHeader(line, "content-length:")
		case 't':
			coded = coded || isHeader(line, "transfer-encoding:")
		}
	}
	return length, coded
}

func isHeader(line []byte, name string) bool {
	return len(line) >= len(name) && strings.EqualFold(string(line[:len(name)]), name)
}

// maxVia is how many proxies a request may have come through. More means a loop of mirrors that do not name themselves.
const maxVia = 4

// checkLoop refuses a request that this mirror has sent itself, by way of others.
func checkLoop(h *fasthttp.RequestHeader, id string) error {
	entries := 0
	for _, line := range h.PeekAll("Via") {
		for entry := range bytes.SplitSeq(line, []byte(",")) {
			entries++
			if entries > maxVia || viaNames(entry, id) {
				return &refusal{status: 508, code: oci.Unavailable,
					message: "the request has come through this mirror before: the operator must not name the mirror as its own upstream"}
			}
		}
	}
	return nil
}

// maxViaLength bounds what a client may have us say of where its request has been, in bytes.
const maxViaLength = 512

// viaOf returns what the request came through, to be told to the upstream, unless it is not sane.
func viaOf(h *fasthttp.RequestHeader) string {
	via := string(bytes.Join(h.PeekAll("Via"), []byte(", ")))
	if len(via) > maxViaLength || strings.ContainsFunc(via, func(c rune) bool { return c < ' ' || c > '~' }) {
		return ""
	}
	return via
}

// viaNames reports whether an entry of a Via header, "1.1 mirror-<id>", is ours.
func viaNames(entry []byte, id string) bool {
	fields := strings.Fields(string(entry))
	return len(fields) >= 2 && id != "" && strings.TrimPrefix(fields[1], "mirror-") == id
}
