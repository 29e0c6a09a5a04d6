package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
)

// TestBrokenMembers has members that know the secret and answer nonsense. Nobody may end up with a byte in the wrong place, or
// wait for ever.
func TestBrokenMembers(t *testing.T) {
	content := func(span string, length, write int) func(*fleet) func(http.ResponseWriter, Ask) {
		return func(f *fleet) func(http.ResponseWriter, Ask) {
			return func(w http.ResponseWriter, _ Ask) {
				if span != "" {
					w.Header().Set("Content-Range", span)
				}
				if length >= 0 {
					w.Header().Set("Content-Length", strconv.Itoa(length))
				}
				w.WriteHeader(StatusContent)
				_, _ = w.Write(bytes.Repeat([]byte{'!'}, write))
			}
		}
	}
	plain := func(status int, headers ...string) func(*fleet) func(http.ResponseWriter, Ask) {
		return func(*fleet) func(http.ResponseWriter, Ask) { return says(status, headers...) }
	}
	const all = 3 * testChunk
	for name, script := range map[string]func(*fleet) func(http.ResponseWriter, Ask){
		"no Content-Range":            content("", testChunk, testChunk),
		"an unknown length":           content("bytes 0-65535/*", testChunk, testChunk),
		"another beginning":           content("bytes 1-65536/196608", testChunk, testChunk),
		"an earlier end":              content("bytes 0-65534/196608", testChunk-1, testChunk-1),
		"a later end":                 content("bytes 0-65536/196608", testChunk+1, testChunk+1),
		"all of it":                   content("bytes 0-196607/196608", all, all),
		"no length":                   content("bytes 0-65535/196608", -1, testChunk),
		"another length":              content("bytes 0-65535/196608", 5, 5),
		"a negative range":            content("bytes -5-65535/196608", testChunk, testChunk),
		"an end before its start":     content("bytes 5-1/196608", testChunk, testChunk),
		"an end beyond the blob":      content("bytes 0-65535/65535", testChunk, testChunk),
		"a huge range":                content("bytes 0-9223372036854775807/9223372036854775807", testChunk, testChunk),
		"an empty answer":             func(*fleet) func(http.ResponseWriter, Ask) { return func(http.ResponseWriter, Ask) {} },
		"a page of a proxy":           plain(http.StatusOK, "Content-Type", "text/html"),
		"a redirect by address":       plain(http.StatusTemporaryRedirect, "Location", "http://10.0.0.9:1/"),
		"a redirect to no name":       plain(StatusAskOther, HeaderNode, "not a name"),
		"redirects to a stranger":     plain(StatusAskOther, HeaderNode, "stranger"),
		"redirects to the asker":      plain(StatusAskOther, HeaderNode, "self"),
		"redirects to itself":         plain(StatusAskOther, HeaderNode, "a"),
		"redirects to who has it not": plain(StatusAskOther, HeaderNode, "c"),
		"a teapot":                    plain(http.StatusTeapot),
		"a broken answer": func(*fleet) func(http.ResponseWriter, Ask) {
			return func(w http.ResponseWriter, _ Ask) {
				c, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					_, _ = io.WriteString(c, "HTTP/9 hello\r\n\r\n")
					_ = c.Close()
				}
			}
		},
		"a body that does not come": func(f *fleet) func(http.ResponseWriter, Ask) {
			return func(w http.ResponseWriter, _ Ask) {
				w.Header().Set("Content-Length", "100")
				w.WriteHeader(http.StatusBadRequest)
				_ = http.NewResponseController(w).Flush()
				<-f.members["a"].over
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(f *fleet) {
				f.members["a"].does(script(f))
				f.members["b"].does(f.sends)
				f.chunk()
				f.wantOrigin()
			}, "a", "b", "self", "c")
		})
	}
}

// A member that says another size than the others is passed over, and what it sends is not used.
func TestSizesThatDiffer(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].does(func(w http.ResponseWriter, a Ask) {
			if a.Start == 0 {
				f.sends(w, a)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a.Start, a.Start+9, a.Start+10))
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(StatusContent)
			_, _ = io.WriteString(w, "!!!!!!!!!!")
		})
		f.members["b"].does(f.sends)
		b := f.chunk()
		got, err := get(f.t.Context(), b, testChunk, 2*testChunk)
		if err != nil || !bytes.Equal(got, f.content[testChunk:2*testChunk]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}, "a", "b", "self")
}

// A registry that sends from a later byte on than it was asked for must not move the bytes of a chunk that has begun.
func TestRegistryThatBeginsElsewhere(t *testing.T) {
	f := func(start int64, content func(f *fleet) []byte, want bool) {
		t.Helper()
		inFleet(t, func(f *fleet) {
			f.members["a"].does(inTurn(f.sendsFirst(1000, breaks), says(StatusFailed)))
			f.members["b"].does(says(StatusFailed))
			f.members["c"].does(says(StatusFailed))
			f.origin = func(context.Context, int64, int64) (*Stream, error) {
				return &Stream{Body: io.NopCloser(bytes.NewReader(content(f))), Start: start, Size: int64(len(f.content))}, nil
			}
			got, err := get(f.t.Context(), f.blob(), 0, testChunk)
			if right := bytes.Equal(got, f.content[:testChunk]); (err == nil) != want || want && !right || !bytes.HasPrefix(f.content, got) {
				t.Errorf("from %d on: %d bytes, %v", start, len(got), err)
			}
		}, "a", "b", "c", "self")
	}
	f(1000, func(f *fleet) []byte { return f.content[1000:testChunk] }, true)
	f(0, func(f *fleet) []byte { return f.content[:testChunk] }, true)
	f(0, func(f *fleet) []byte { return f.content }, true)
	f(1001, func(f *fleet) []byte { return f.content[1001:testChunk] }, false)
	f(0, func(f *fleet) []byte { return f.content[:10] }, false)
	f(1000, func(f *fleet) []byte { return f.content[1000:2000] }, false)
}
