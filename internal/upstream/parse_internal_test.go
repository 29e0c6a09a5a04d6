package upstream

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParseContentRange(t *testing.T) {
	f := func(text string, want contentRange, ok bool) {
		t.Helper()
		got, err := parseContentRange(text)
		if got != want || (err == nil) != ok || !ok && !errors.Is(err, ErrWrongContent) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	f("bytes 0-9/100", contentRange{0, 10, 100}, true)
	f("Bytes 5-5/6", contentRange{5, 6, 6}, true)
	f("bytes 0-9/*", contentRange{0, 10, -1}, true)
	for _, bad := range []string{
		"", "bytes", "bytes */100", "bytes 0-9", "bytes 9-0/100", "bytes 0-100/100", "bytes -1-5/10", "bytes +1-5/10",
		"items 0-9/100", "bytes 0-9/x", "bytes 0-9/99999999999999999999", "bytes=0-9/100", "0-9/100",
	} {
		f(bad, contentRange{}, false)
	}
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 0-9/100")
	f.Add("bytes 0-9/*")
	f.Add("bytes */100")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseContentRange(text)
		if err == nil && (c.start < 0 || c.end <= c.start || c.size >= 0 && c.end > c.size) {
			t.Errorf("%q: %v", text, c)
		}
	})
}

func TestNextLink(t *testing.T) {
	f := func(want string, lines ...string) {
		t.Helper()
		if got, ok := nextLink(http.Header{"Link": lines}); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, want %q", lines, got, want)
		}
	}
	f("/v2/a/tags/list?n=2&last=b", `</v2/a/tags/list?n=2&last=b>; rel="next"`)
	f("/x", `</x>;rel=next`)
	f("/x", `</y>; rel="prev", </x>; REL="next"`)
	f("/x", `</y>; rel="prev"`, `</x>; rel="next"`)
	f("/x?a=1,2", `</x?a=1,2>; rel="next"`)
	f("", `</x>; rel="prev"`)
	f("", `</x`)
	f("", `<>; rel="next"`)
	f("", "")
	f("")
}

func FuzzNextLink(f *testing.F) {
	f.Add(`</v2/a/tags/list?n=2&last=b>; rel="next"`)
	f.Add(`</y>; rel="prev", </x>; rel=next`)
	f.Fuzz(func(t *testing.T, line string) {
		if target, ok := nextLink(http.Header{"Link": {line}}); ok && !strings.Contains(line, "<"+target+">") {
			t.Errorf("%q: target %q is not in the line", line, target)
		}
	})
}

func TestReadOnly(t *testing.T) {
	f := func(scope, want string) {
		t.Helper()
		if got := readOnly(scope); got != want {
			t.Errorf("%q: got %q, want %q", scope, got, want)
		}
	}
	f("", "")
	f("repository:app:pull", "repository:app:pull")
	f("repository:app:pull,push", "repository:app:pull")
	f("repository:app:push,pull,list,delete", "repository:app:pull,list")
	f("repository:app:*", "")
	f("registry:catalog:*  repository:reg.example:5000/app:pull,metadata_read", "repository:reg.example:5000/app:pull,metadata_read")
	f("pull", "")
	f(":pull", "")
}

func FuzzReadOnly(f *testing.F) {
	f.Add("repository:app:pull,push registry:catalog:*")
	f.Fuzz(func(t *testing.T, scope string) {
		got := readOnly(scope)
		if readOnly(got) != got {
			t.Errorf("%q: got %q, and of that %q", scope, got, readOnly(got))
		}
		for item := range strings.FieldsSeq(got) {
			actions := item[strings.LastIndex(item, ":")+1:]
			if strings.Trim(strings.NewReplacer("pull", "", "list", "", "metadata_read", "").Replace(actions), ",") != "" {
				t.Errorf("%q: %q is about more than reading", scope, item)
			}
		}
	})
}

// What was to last a moment does not last longer because the clock was set back by more than that.
func TestClockSetBack(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	f := func(until time.Time, want bool) {
		t.Helper()
		if got := lasts(until.UnixNano(), now, time.Minute); got != want {
			t.Errorf("%v: got %v, want %v", until, got, want)
		}
	}
	f(now.Add(time.Minute), true)
	f(now.Add(time.Nanosecond), true)
	f(now, false)
	f(now.Add(-time.Hour), false)
	f(now.Add(time.Minute+1), false)
	f(now.Add(24*time.Hour), false)
	f(time.Unix(0, 0), false)
	var p probing
	if !p.begin(now) || p.due(now) || !p.due(now.Add(probeEvery)) || !p.due(now.Add(-time.Hour)) {
		t.Error("a probe is not due when its time is over, or the clock was set back")
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	f := func(text string, want time.Duration) {
		t.Helper()
		if got := parseRetryAfter(text, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	f("120", 2*time.Minute)
	f("0", 0)
	f("999999", time.Hour)
	f("99999999999999999999", 0)
	f("-5", 0)
	f("soon", 0)
	f("", 0)
	f("Sat, 21 Nov 2026 08:01:00 GMT", time.Minute)
	f("Sat, 21 Nov 2026 07:00:00 GMT", 0)
}

func FuzzReadErrorBody(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"DENIED","message":"no"}]}`), "application/json")
	f.Add([]byte(`{"details":"too many"}`), "application/json")
	f.Add([]byte("plain\x00text\n\xff"), "text/plain")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		code, message := readErrorBody(body, contentType)
		if len(code) > maxCode || len(message) > maxMessage || !utf8.ValidString(message) || strings.ContainsAny(message, "\r\n\x00") {
			t.Errorf("got %q, %q", code, message)
		}
	})
}

func TestCheckRealm(t *testing.T) {
	f := func(endpoint, realm string, ok bool) {
		t.Helper()
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&Registry{}).checkRealm(u, realm); (err == nil) != ok || !ok && !errors.Is(err, ErrDenied) {
			t.Errorf("%s from %s: %v", realm, endpoint, err)
		}
	}
	f("https://registry-1.docker.io", "https://auth.docker.io/token", true)
	f("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true)
	f("https://ghcr.io", "https://ghcr.io/token", true)
	f("https://public.ecr.aws", "https://public.ecr.aws/token/", true)
	f("https://reg.example:5000", "https://reg.example:5001/auth", true)
	f("https://REG.example", "https://reg.EXAMPLE/auth", true)
	f("http://127.0.0.1:5000", "http://127.0.0.1:6000/token", true)
	f("http://reg.example", "https://reg.example/token", true)
	f("https://reg.example", "http://reg.example/token", false)
	f("https://reg.example", "https://attacker.test/token", false)
	f("https://registry-1.docker.io", "https://docker.io.attacker.test/token", false)
	f("https://registry-1.docker.io", "https://notdocker.io/token", false)
	f("https://one.github.io", "https://two.github.io/token", false) // a public suffix
	f("https://a.co.uk", "https://b.co.uk/token", false)
	f("https://10.0.0.1", "https://10.0.0.2/token", false)
	f("https://[::1]:5000", "https://[::1]:5001/token", true)
	f("https://localhost", "https://otherhost/token", false)
	f("https://reg.example", "https://user:pw@reg.example/token", false)
	f("https://reg.example", "https:reg.example", false)
	f("https://reg.example", "/token", false)
	f("https://reg.example", "", false)
	f("https://reg.example", "https://%zz", false)
}

func TestIsPrivate(t *testing.T) {
	f := func(address string, want bool) {
		t.Helper()
		if got := isPrivate(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %v", address, got)
		}
	}
	for _, address := range []string{
		"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1",
		"::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
	} {
		f(address, true)
	}
	for _, address := range []string{"1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8"} {
		f(address, false)
	}
}

func TestSameHost(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		x, errX := url.Parse(a)
		y, errY := url.Parse(b)
		if err := errors.Join(errX, errY); err != nil || sameHost(x, y) != want {
			t.Errorf("%s and %s: got %v, %v", a, b, !want, err)
		}
	}
	f("https://a.example/x", "https://A.example:443/y", true)
	f("http://a.example", "http://a.example:80", true)
	f("https://a.example", "http://a.example", false)
	f("https://a.example", "https://a.example:8443", false)
	f("https://quay.io", "https://cdn01.quay.io", false)
}

func FuzzReadTags(f *testing.F) {
	f.Add([]byte(`{"name":"a","tags":["a","b"]}`), 1, "a")
	f.Add([]byte(`{"tags":null}`), 0, "")
	f.Add([]byte(`{"tags":["a","a"]}`), 1, "a")
	f.Fuzz(func(t *testing.T, body []byte, n int, last string) {
		page, err := readTags(document{body: body}, n, last)
		if err == nil && (page.Tags == nil || n > 0 && len(page.Tags) > n || last != "" && slices.Contains(page.Tags, last)) {
			t.Errorf("n=%d last=%q: %v", n, last, page)
		}
	})
}

func FuzzReadReferrers(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:0","artifactType":"a/b"}]}`), "a/b")
	f.Add([]byte(`{}`), "")
	f.Add([]byte(`{"manifests":[null,1,{}],"annotations":{"a":"b"}}`), "x")
	f.Fuzz(func(t *testing.T, body []byte, artifactType string) {
		page, err := readReferrers(document{body: body}, artifactType)
		if err != nil {
			return
		}
		again, err := readReferrers(document{body: page.Body}, artifactType)
		if err != nil || string(again.Body) != string(page.Body) {
			t.Errorf("%s reads as %s, %v", page.Body, again.Body, err)
		}
	})
}
