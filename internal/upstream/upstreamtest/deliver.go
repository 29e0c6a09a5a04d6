package upstreamtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirror/internal/oci"
)

// delivery is content on its way to a client, with what goes wrong with it.
type delivery struct {
	content   []byte
	mediaType string
	digest    oci.Digest
	fault     Fault
	ranges    bool
}

// deliver sends content, or the range of it that was asked for.
func (r *Registry) deliver(w http.ResponseWriter, req *http.Request, d delivery) {
	header, size := w.Header(), len(d.content)
	start, end, partial := 0, size, false
	if text := req.Header.Get("Range"); text != "" && d.ranges && !d.fault.NoRange && req.Method == http.MethodGet {
		var ok bool
		if start, end, ok = parseRange(text, size); !ok {
			header.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		partial = true
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, size))
	}
	if d.fault.ContentRange != "" {
		header.Set("Content-Range", d.fault.ContentRange)
	}
	body := d.body(start, end)
	d.describe(header, len(body))
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	if req.Method == http.MethodGet {
		r.resumed(d.digest, int64(start))
		r.write(w, req, d, body, start)
	}
}

// parseRange reads a single range; the registry offers no others.
func parseRange(text string, size int) (start, end int, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	if !ok {
		return 0, 0, false
	}
	start, err := strconv.Atoi(first)
	if err != nil || start >= size {
		return 0, 0, false
	}
	end = size
	if last != "" {
		if end, err = strconv.Atoi(last); err != nil || end < start {
			return 0, 0, false
		}
		end = min(end+1, size)
	}
	return start, end, true
}

// body returns the bytes to send, wrong ones included.
func (d delivery) body(start, end int) []byte {
	body := d.content[start:end]
	if len(d.fault.Flip) > 0 || d.fault.Extra > 0 {
		body = bytes.Clone(body)
	}
	for _, offset := range d.fault.Flip {
		if at := int(offset) - start; at >= 0 && at < len(body) {
			body[at] ^= 0xff
		}
	}
	body = append(body[:len(body):len(body)], make([]byte, d.fault.Extra)...)
	if !d.fault.Gzip {
		return body
	}
	var packed bytes.Buffer
	packer := gzip.NewWriter(&packed)
	_, _ = packer.Write(body)
	_ = packer.Close()
	return packed.Bytes()
}

func (d delivery) describe(header http.Header, length int) {
	header.Set("Content-Type", d.mediaType)
	if d.fault.ContentType != "" {
		header.Set("Content-Type", d.fault.ContentType)
	}
	if d.ranges {
		header.Set("Accept-Ranges", "bytes")
	}
	if d.fault.Gzip {
		header.Set("Content-Encoding", "gzip")
	}
	if !d.fault.NoLength {
		header.Set("Content-Length", strconv.Itoa(length))
	}
	claimed := d.digest.String()
	if d.fault.Digest != "" {
		claimed = d.fault.Digest
	}
	if !d.fault.NoDigest {
		header.Set("Docker-Content-Digest", claimed)
		header.Set("ETag", strconv.Quote(claimed))
	}
}

// write sends the body, which begins at start, at the fault's pace, as far as the fault lets it.
func (r *Registry) write(w http.ResponseWriter, req *http.Request, d delivery, body []byte, start int) {
	flusher := http.NewResponseController(w)
	if d.fault.NoLength {
		_ = flusher.Flush() // decides for chunks before the length can be known
	}
	limit := len(body)
	if d.fault.CutAfter > 0 {
		limit = min(limit, int(d.fault.CutAfter))
	}
	if d.fault.StallAfter > 0 {
		limit = min(limit, int(d.fault.StallAfter))
	}
	step, cuts := 64<<10, r.cutsSoFar()
	if d.fault.Rate > 0 {
		step = max(int(d.fault.Rate/50), 1) // fifty steps a second look even
	}
	for at := 0; at < limit; at += step {
		n, err := w.Write(body[at:min(at+step, limit)])
		r.count(d.digest, n)
		if err != nil {
			return
		}
		if r.cutsSoFar() > cuts {
			_ = flusher.Flush() // what was counted arrives
			r.brokenOff(d.digest, start, start+at+n)
			panic(http.ErrAbortHandler)
		}
		if d.fault.Rate > 0 {
			_ = flusher.Flush()
			if !wait(req, time.Second/50) {
				return
			}
		}
	}
	if limit == len(body) && d.fault.StallAfter == 0 {
		return
	}
	_ = flusher.Flush()
	if d.fault.StallAfter > 0 {
		<-req.Context().Done()
	}
	r.brokenOff(d.digest, start, start+limit)
	panic(http.ErrAbortHandler) // closes the connection with the body unfinished
}

func (r *Registry) count(d oci.Digest, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[d] += int64(n)
	r.cut.count(int64(n))
}
