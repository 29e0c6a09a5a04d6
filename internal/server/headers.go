package server

import (
	"strings"

	"github.com/valyala/fasthttp"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// maxWarning bounds the text of a Warning header in bytes. The specification allows 4096 for all of them together.
const maxWarning = 1024

const (
	typeJSON        = "application/json"
	typeOctetStream = oci.MediaTypeOctetStream
)

// cacheWords are the values of X-Cache.
var cacheWords = [...]string{mirror.Hit: "HIT", mirror.Miss: "MISS", mirror.Join: "JOIN", mirror.Stale: "STALE"}

// commonHeaders go with every answer, error answers included.
func commonHeaders(h *fasthttp.ResponseHeader, requestID string) {
	// Names go out as they are written here, "ETag" and not "Etag".
	h.DisableNormalizing()
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	h.Set("X-Request-Id", requestID)
}

// contentHeaders go with every successful answer about content, body or not: the same for GET and HEAD.
func contentHeaders(h *fasthttp.ResponseHeader, d oci.Digest, outcome mirror.Outcome, source mirror.Source) {
	var room [192]byte
	tag := appendEntityTag(room[:0], d)
	h.SetBytesV("Docker-Content-Digest", tag[1:len(tag)-1])
	h.SetBytesV("ETag", tag)
	h.Set("X-Cache", cacheWords[outcome])
	h.Set("X-Cache-Source", source.String())
}

// dropContentHeaders undoes contentHeaders and what may have come with it, for an answer that turns out an error.
func dropContentHeaders(h *fasthttp.ResponseHeader) {
	for _, name := range []string{"Docker-Content-Digest", "ETag", "X-Cache", "X-Cache-Source", "Accept-Ranges", "Content-Range", "Warning"} {
		h.Del(name)
	}
}

// warn adds a Warning header in the only form that clients show.
func warn(h *fasthttp.ResponseHeader, text string) {
	if text != "" {
		h.Set("Warning", `299 - "`+quotable(text[:min(len(text), maxWarning)])+`"`)
	}
}

// quotable escapes what would end a quoted string and drops what a header must not hold.
func quotable(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
