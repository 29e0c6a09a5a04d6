package peer

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mirror/internal/oci"
)

var testDigest = oci.DigestOf(oci.SHA256, []byte("content"))

func TestAskRoundTrip(t *testing.T) {
	f := func(a Ask) {
		t.Helper()
		got, err := ParseAsk(a.signed())
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("got %+v, %v, want %+v", got, err, a)
		}
	}
	c := Content{Registry: "docker.io", Repository: "library/debian", Digest: testDigest}
	f(Ask{Content: c, End: 1, Hop: 1})
	f(Ask{Content: c, Key: 7, Start: 56 << 20, End: 64 << 20, Role: AsParent, Hop: maxHops})
	f(Ask{Content: c, Key: 1, Start: 1, End: 2, Role: AsHolder, Dead: []string{"a"}, Slow: []string{"b", "c"}, Not: []string{"d", "e.f-g_h"}})
	f(Ask{Content: Content{Registry: "registry.test:5000", Repository: "a/b_c/d-e", Digest: oci.DigestOf(oci.SHA512, nil)}, End: 1 << 61})
}

func TestParseAskRefuses(t *testing.T) {
	right := Ask{Content: Content{Registry: "docker.io", Repository: "library/debian", Digest: testDigest}, End: 5, Hop: 1}.signed()
	f := func(what string, change func(r *Request)) {
		t.Helper()
		r := right
		change(&r)
		if a, err := ParseAsk(r); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v, %v, want ErrMalformed", what, a, err)
		}
	}
	target := func(from, to string) func(r *Request) {
		return func(r *Request) { r.Target = strings.Replace(r.Target, from, to, 1) }
	}
	f("nothing", func(r *Request) { *r = Request{} })
	f("another path", target(PathBlob, "/v2/"))
	f("an absolute address", target(PathBlob, "http://host"+PathBlob))
	f("another algorithm", target("sha256:", "md5:"))
	f("a short digest", target("sha256:", "sha256:0"))
	f("a way out of the repository", target("library%2Fdebian", url.QueryEscape("../../v2/_catalog")))
	f("a repository with a query", target("library%2Fdebian", url.QueryEscape("a?b=c")))
	f("no repository", target("library%2Fdebian", ""))
	f("no registry", target("docker.io", ""))
	f("a broken query", target("ns=", "%zz="))
	f("a negative key", target("key=0", "key=-1"))
	f("no key", target("key=0", ""))
	f("a huge key", target("key=0", "key=9223372036854775807"))
	f("a role of another version", target("as=owner", "as=friend"))
	f("no range", func(r *Request) { r.Range = "" })
	f("a range of another unit", func(r *Request) { r.Range = "lines=0-4" })
	f("a range without an end", func(r *Request) { r.Range = "bytes=0-" })
	f("a range from the end", func(r *Request) { r.Range = "bytes=-4" })
	f("two ranges", func(r *Request) { r.Range = "bytes=0-1,3-4" })
	f("a range backwards", func(r *Request) { r.Range = "bytes=4-3" })
	f("a range with signs", func(r *Request) { r.Range = "bytes=+0-+4" })
	f("no hop", func(r *Request) { r.Hop = "" })
	f("too many hops", func(r *Request) { r.Hop = "9" })
}

func TestListsAreHints(t *testing.T) {
	f := func(list string, want ...string) {
		t.Helper()
		if got := parseNames(list); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
	f("")
	f(",,")
	f("a", "a")
	f("a, b,c d,e", "a", "e") // a space is no part of a name
	f(strings.Repeat("x", maxName+1))
	if got := parseNames(strings.Repeat("a,", 1000)); len(got) != maxNames {
		t.Errorf("%d names, want %d", len(got), maxNames)
	}
}

func TestParseTag(t *testing.T) {
	f := func(tag, registry, repository string, want bool) {
		t.Helper()
		name := TagName{Registry: registry, Repository: repository, Tag: tag}
		got, err := ParseTag(tagTarget(name))
		if want != (err == nil) || want && got != name || !want && !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v: got %+v, %v", name, got, err)
		}
	}
	f("1.2", "docker.io", "library/debian", true)
	f("_x", "registry.test:5000", "a", true)
	f("", "docker.io", "a", false)
	f("..", "docker.io", "a", false)
	f("a/b", "docker.io", "a", false)
	f("a", "", "a", false)
	f("a", "docker.io", "", false)
	f("a", "docker.io", "A", false)
	f("a", "docker.io", "../a", false)
}

func TestParseManifest(t *testing.T) {
	c := Content{Registry: "docker.io", Repository: "library/debian", Digest: testDigest}
	if got, err := ParseManifest(manifestTarget(c)); err != nil || got != c {
		t.Errorf("got %+v, %v", got, err)
	}
	f := func(target string) {
		t.Helper()
		if got, err := ParseManifest(target); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: got %+v, %v", target, got, err)
		}
	}
	f("")
	f(PathManifest)
	f(PathManifest + testDigest.String())
	f(PathManifest + "1.2?ns=docker.io&repo=a")
	f(PathManifest + testDigest.String() + "?ns=docker.io&repo=a;b")
}

func TestParseContentRange(t *testing.T) {
	f := func(header string, start, end, size int64) {
		t.Helper()
		gotStart, gotEnd, gotSize, err := parseContentRange(header)
		if err != nil || gotStart != start || gotEnd != end || gotSize != size {
			t.Errorf("%q: got %d, %d, %d, %v", header, gotStart, gotEnd, gotSize, err)
		}
	}
	f("bytes 0-0/1", 0, 1, 1)
	f("bytes 5-9/100", 5, 10, 100)
	refused := func(header string) {
		t.Helper()
		if start, end, size, err := parseContentRange(header); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: got %d, %d, %d, %v", header, start, end, size, err)
		}
	}
	for _, header := range []string{
		"", "bytes", "bytes 0-0", "bytes 0-0/", "bytes 0-0/*", "bytes */5", "bytes 0-5/5", "bytes 3-2/5", "bytes  0-0/1", "0-0/1",
		"bytes -1-0/1", "bytes 0-0/1/1", "bytes 0-18446744073709551615/18446744073709551615",
	} {
		refused(header)
	}
}

func TestRefusalOf(t *testing.T) {
	f := func(status int, retry string, want time.Duration, is bool) {
		t.Helper()
		err := refusal("a", &answer{status: status, header: http.Header{"Retry-After": {retry}}})
		refused, ok := errors.AsType[*RefusedError](err)
		if ok != is || ok && (refused.Status != status || refused.RetryAfter != want || refused.Peer != "a") {
			t.Errorf("%d %q: got %#v", status, retry, err)
		}
	}
	f(http.StatusNotFound, "", 0, true)
	f(http.StatusForbidden, "", 0, true)
	f(http.StatusTooManyRequests, "60", time.Minute, true)
	f(http.StatusTooManyRequests, "Wed, 21 Oct 2015 07:28:00 GMT", 0, true)
	f(http.StatusTooManyRequests, "99999999999999999999", 0, true)
	f(http.StatusTooManyRequests, "9000000000000000", maxRetryAfter, true)
	f(http.StatusUnauthorized, "1", 0, false)
	f(StatusUnable, "1", 0, false)
	f(StatusFailed, "", 0, false)
}

// FuzzParseAsk is given what a member of any version may send. What is understood means the same when it is sent on.
func FuzzParseAsk(f *testing.F) {
	seed := Ask{Content: Content{Registry: "docker.io", Repository: "library/debian", Digest: testDigest}, Key: 1, Start: 5, End: 9, Dead: []string{"a", "b"}, Hop: 1}.signed()
	f.Add(seed.Target, seed.Range, seed.Hop, seed.Dead, seed.Slow)
	f.Add(PathBlob+"sha256:?ns=a", "bytes=0-", "-1", ",", "a b")
	f.Add("", "", "", "", "")
	f.Fuzz(func(t *testing.T, target, span, hop, dead, slow string) {
		a, err := ParseAsk(Request{Method: http.MethodGet, Target: target, Range: span, Hop: hop, Dead: dead, Slow: slow})
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%v is not ErrMalformed", err)
			}
			return
		}
		if a.Start < 0 || a.End <= a.Start || a.Key < 0 || len(a.Dead) > maxNames || len(a.Slow) > maxNames || len(a.Not) > maxNames {
			t.Errorf("accepted %+v", a)
		}
		if _, err := oci.NewRepository(a.Registry, a.Repository); err != nil {
			t.Error(err)
		}
		if again, err := ParseAsk(a.signed()); err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}

// FuzzParseDocument is given the targets of requests for manifests and tags.
func FuzzParseDocument(f *testing.F) {
	f.Add(manifestTarget(Content{Registry: "docker.io", Repository: "library/debian", Digest: testDigest}))
	f.Add(tagTarget(TagName{Registry: "docker.io", Repository: "library/debian", Tag: "1.2"}))
	f.Add(PathTag + "%2e%2e?ns=a&repo=b")
	f.Add("?%zz")
	f.Fuzz(func(t *testing.T, target string) {
		if c, err := ParseManifest(target); err == nil {
			if again, err := ParseManifest(manifestTarget(c)); err != nil || again != c {
				t.Errorf("%+v became %+v, %v", c, again, err)
			}
		} else if !errors.Is(err, ErrMalformed) {
			t.Errorf("%v is not ErrMalformed", err)
		}
		if name, err := ParseTag(target); err == nil {
			if again, err := ParseTag(tagTarget(name)); err != nil || again != name {
				t.Errorf("%+v became %+v, %v", name, again, err)
			}
		} else if !errors.Is(err, ErrMalformed) {
			t.Errorf("%v is not ErrMalformed", err)
		}
	})
}

// FuzzReadAnswer is given what a broken member may answer. Content that is accepted is what was asked for, to the byte.
func FuzzReadAnswer(f *testing.F) {
	f.Add(206, "bytes 10-19/100", int64(10), "100", "1", "1", "a")
	f.Add(206, "bytes 10-14/15", int64(5), "", "", "", "")
	f.Add(206, "bytes 0-19/100", int64(20), "-1", "99", "0", "")
	f.Add(307, "", int64(0), "", "", "", "b")
	f.Add(202, "", int64(0), "9223372036854775807", "9223372036854775807", "yes", "")
	f.Fuzz(func(t *testing.T, status int, span string, length int64, size, moving, whole, node string) {
		body := io.NopCloser(strings.NewReader(""))
		response := &http.Response{StatusCode: status, ContentLength: length, Body: body, Header: http.Header{
			"Content-Range": {span}, HeaderSize: {size}, HeaderMoving: {moving}, HeaderWhole: {whole}, HeaderNode: {node},
		}}
		a := Ask{Start: 10, End: 20}
		said, err := readAnswer(response, a)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%v is not ErrMalformed", err)
			}
			return
		}
		if said.moving < 0 || said.moving >= movingMost || said.size < -1 || said.status == StatusAskOther && !isName(said.node) {
			t.Errorf("accepted %+v", said)
		}
		if (said.body != nil) != (status == StatusContent) {
			t.Errorf("a body of status %d", status)
		}
		if said.body != nil && (said.start != a.Start || length != min(a.End, said.size)-a.Start || length <= 0) {
			t.Errorf("accepted %+v of %d bytes", said, length)
		}
	})
}
