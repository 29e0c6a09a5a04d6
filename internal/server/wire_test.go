package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

const (
	digestA = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	appPath = "/v2/org/app/manifests/"
)

// badInput is one line of the protocol reference's table of bad input: raw bytes, and what comes back.
type badInput struct {
	name    string
	request string
	status  int
	code    string
	// closes says that the connection ends after the answer.
	closes bool
	// header is "Name: value" that the answer must have, empty for none.
	header string
}

func badInputs() []badInput {
	get := func(target string, headers ...string) string { return request("GET", target, headers...) }
	body := func(method, target string, length int) string {
		return method + " " + target + " HTTP/1.1\r\nHost: m\r\nContent-Length: 5\r\n\r\n" + strings.Repeat("x", length)
	}
	return []badInput{
		{name: "path outside of v2", request: get("/"), status: 404, code: "NAME_UNKNOWN"},
		{name: "health path of another listener", request: get("/healthz"), status: 404, code: "NAME_UNKNOWN"},
		{name: "unknown prefix", request: get("/nobody/v2/"), status: 404, code: "NAME_UNKNOWN"},
		{name: "upper case name", request: get("/v2/Org/app/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "three underscores", request: get("/v2/a___b/c/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "dots in a component", request: get("/v2/a..b/c/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "leading separator", request: get("/v2/-a/b/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "trailing separator", request: get("/v2/a-/b/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "name too long", request: get("/v2/" + strings.Repeat("a", 250) + "/b/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "too many components", request: get("/v2/" + strings.Repeat("a/", 33) + "manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "parent in the path", request: get("/v2/org/../app/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "dot in the path", request: get("/v2/./app/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "two slashes", request: get("/v2//app/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "two slashes first", request: get("//v2/org/app/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "escaped parent", request: get("/v2/org/%2e%2E/app/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "escaped slash", request: get("/v2/org%2Fapp/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "escaped backslash", request: get("/v2/org%5Capp/manifests/1"), status: 400, code: "NAME_INVALID"},
		{name: "escaped zero", request: get("/v2/org/app/manifests/1%00"), status: 400, code: "NAME_INVALID"},
		{name: "backslash", request: get(`/v2/org\app/manifests/1`), status: 400, code: "NAME_INVALID"},
		{name: "control byte", request: get("/v2/org/app/manifests/\x01"), status: 400, code: "NAME_INVALID", closes: true},
		{name: "delete byte", request: get("/v2/org/app/manifests/\x7f"), status: 400, code: "NAME_INVALID", closes: true},
		{name: "not UTF-8", request: get("/v2/org/app/manifests/\xff\xfe"), status: 400, code: "NAME_INVALID"},
		{name: "broken escape", request: get("/v2/org/app/manifests/%4"), status: 400, code: "NAME_INVALID"},
		{name: "double escape", request: get("/v2/org/app/manifests/%252e"), status: 400, code: "NAME_INVALID"},
		{name: "fragment", request: get("/v2/org/app/manifests/1#x"), status: 400, code: "NAME_INVALID"},
		{name: "tag of the conformance suite", request: get(appPath + ".INVALID_MANIFEST_NAME"), status: 404, code: "MANIFEST_UNKNOWN"},
		{name: "tag too long", request: get(appPath + strings.Repeat("a", 129)), status: 404, code: "MANIFEST_UNKNOWN"},
		{name: "reference with colon", request: get(appPath + "sha256:baddigeststring"), status: 400, code: "DIGEST_INVALID"},
		{name: "upper case digest", request: get(appPath + "sha256:" + strings.ToUpper(digestA[7:])), status: 400, code: "DIGEST_INVALID"},
		{name: "algorithm md5", request: get(appPath + "md5:d41d8cd98f00b204e9800998ecf8427e"), status: 400, code: "DIGEST_INVALID"},
		{name: "algorithm sha384", request: get("/v2/org/app/blobs/sha384:" + strings.Repeat("0", 96)), status: 400, code: "DIGEST_INVALID"},
		{name: "blob by tag", request: get("/v2/org/app/blobs/latest"), status: 400, code: "DIGEST_INVALID"},
		{name: "referrers of a bad digest", request: get("/v2/org/app/referrers/sha256:x"), status: 400, code: "DIGEST_INVALID"},
		{name: "tag and digest", request: get(appPath + "tag@" + digestA), status: 400, code: "DIGEST_INVALID"},
		{name: "n is no number", request: get("/v2/org/app/tags/list?n=x"), status: 400, code: "UNSUPPORTED"},
		{name: "n is negative", request: get("/v2/org/app/tags/list?n=-1"), status: 400, code: "UNSUPPORTED"},
		{name: "last is no tag", request: get("/v2/org/app/tags/list?last=%2F"), status: 400, code: "UNSUPPORTED"},
		{name: "unknown ns", request: get(appPath + "1?ns=evil.example"), status: 404, code: "NAME_UNKNOWN"},
		{name: "two ns", request: get(appPath + "1?ns=ghcr.io&ns=docker.io"), status: 400, code: "NAME_INVALID"},
		{name: "ns against prefix", request: get("/docker.io" + appPath + "1?ns=ghcr.io"), status: 400, code: "NAME_INVALID"},
		{name: "ns is an address", request: get(appPath + "1?ns=169.254.169.254"), status: 404, code: "NAME_UNKNOWN"},
		{name: "ns is localhost", request: get(appPath + "1?ns=localhost%3A5000"), status: 404, code: "NAME_UNKNOWN"},
		{name: "ns with scheme", request: get(appPath + "1?ns=http%3A%2F%2Fghcr.io"), status: 404, code: "NAME_UNKNOWN"},
		{name: "ns with user", request: get(appPath + "1?ns=a%40ghcr.io"), status: 404, code: "NAME_UNKNOWN"},
		{name: "ns with path", request: get(appPath + "1?ns=ghcr.io%2Fx"), status: 404, code: "NAME_UNKNOWN"},
		{name: "ns with a port out of range", request: get(appPath + "1?ns=ghcr.io%3A99999"), status: 404, code: "NAME_UNKNOWN"},
		{name: "our own Via", request: get(appPath+"1", "Via: 1.1 mirror-"+testID), status: 508, code: "UNAVAILABLE"},
		{name: "our own Via among others", request: get(appPath+"1", "Via: 1.1 a, 1.1 mirror-"+testID), status: 508, code: "UNAVAILABLE"},
		{name: "long Via", request: get(appPath+"1", "Via: 1.1 a, 1.1 b", "Via: 1.1 c, 1.1 d, 1.1 e"), status: 508, code: "UNAVAILABLE"},
		{name: "POST", request: request("POST", "/v2/org/app/blobs/uploads/"), status: 405, code: "UNSUPPORTED", header: "Allow: GET, HEAD"},
		{name: "POST with a body", request: body("POST", "/v2/org/app/blobs/uploads/", 5), status: 405, code: "UNSUPPORTED", closes: true},
		{name: "PUT before its body", request: body("PUT", appPath+"1", 0), status: 405, code: "UNSUPPORTED", closes: true},
		{name: "PATCH", request: body("PATCH", "/v2/org/app/blobs/uploads/1", 5), status: 405, code: "UNSUPPORTED", closes: true},
		{name: "DELETE", request: request("DELETE", appPath+"1"), status: 405, code: "UNSUPPORTED", header: "Allow: GET, HEAD"},
		{name: "OPTIONS", request: request("OPTIONS", "*"), status: 405, code: "UNSUPPORTED", header: "Allow: GET, HEAD"},
		{name: "PUT that waits for 100", request: request("PUT", appPath+"1", "Content-Length: 5", "Expect: 100-continue"), status: 405,
			code: "UNSUPPORTED", closes: true},
		{name: "preface of HTTP/2", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 405, code: "UNSUPPORTED", closes: true},
		{name: "upload status", request: get("/v2/org/app/blobs/uploads/7f3a"), status: 405, code: "UNSUPPORTED"},
		{name: "large body on GET", request: "GET /v2/ HTTP/1.1\r\nHost: m\r\nContent-Length: 70000\r\n\r\nxx", status: 413, code: "UNSUPPORTED", closes: true},
		{name: "both lengths", request: get("/v2/", "Transfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n", status: 400,
			code: "UNSUPPORTED", closes: true},
		{name: "two lengths", request: get("/v2/", "Content-Length: 5", "Content-Length: 6"), status: 400, code: "UNSUPPORTED", closes: true},
		{name: "unknown coding", request: get("/v2/", "Transfer-Encoding: gzip"), status: 400, code: "UNSUPPORTED", closes: true},
		{name: "blank before the colon", request: get("/v2/", "X-A : b"), status: 400, code: "UNSUPPORTED", closes: true},
		{name: "two hosts", request: get("/v2/", "Host: other"), status: 400, code: "UNSUPPORTED", closes: true},
		{name: "no HTTP", request: "hello\r\n\r\n", status: 400, code: "UNSUPPORTED", closes: true},
		{name: "headers too long", request: get("/v2/", "X-A: "+strings.Repeat("a", 33<<10)), status: 431, code: "UNSUPPORTED", closes: true},
		{name: "catalog", request: get("/v2/_catalog"), status: 404, code: "NAME_UNKNOWN"},
		{name: "extension", request: get("/v2/_oci/ext/discover"), status: 404, code: "NAME_UNKNOWN"},
		{name: "signatures extension", request: get("/extensions/v2/org/app/signatures/" + digestA), status: 404, code: "NAME_UNKNOWN"},
		{name: "host in the name that is not served", request: get("/v2/private.example/org/app/manifests/1"), status: 404, code: "NAME_UNKNOWN"},
	}
}

// TestBadInput sends each line of the table on a connection of its own. None of it may reach an upstream.
func TestBadInput(t *testing.T) {
	h := newHarness(t)
	for _, in := range badInputs() {
		t.Run(in.name, func(t *testing.T) {
			c := h.dial()
			c.send(in.request)
			a := c.read("GET").want(t, in.status)
			checkErrorBody(t, a, in.code)
			a.wantHeader(t, "Docker-Distribution-Api-Version", "registry/2.0")
			if a.Header.Get("X-Request-Id") == "" {
				t.Error("the answer has no request id")
			}
			if name, value, ok := strings.Cut(in.header, ": "); ok {
				a.wantHeader(t, name, value)
			}
			if in.closes && (!a.Close || !c.ended()) {
				t.Error("the connection stays open")
			}
		})
	}
	if got := h.upstreamRequests(); got != 0 {
		t.Errorf("bad input caused %d upstream requests: %v %v", got, h.hub.Requests(), h.ghcr.Requests())
	}
}

// checkErrorBody fails the test when a body is not the specification's JSON with the code and a message.
func checkErrorBody(t *testing.T, a answer, code string) {
	t.Helper()
	a.wantHeader(t, "Content-Type", "application/json")
	var decoded struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &decoded); err != nil || len(decoded.Errors) != 1 {
		t.Fatalf("body %q is no error body (%v)", a.body, err)
	}
	if got := decoded.Errors[0]; got.Code != code || got.Message == "" {
		t.Errorf("got code %q with message %q, want %q", got.Code, got.Message, code)
	}
	if len(a.body) > 4096 {
		t.Errorf("body has %d bytes", len(a.body))
	}
}

// TestErrorOfHeadHasTheHeadersOfGet checks that a HEAD error has no body and says how long it would be.
func TestErrorOfHeadHasTheHeadersOfGet(t *testing.T) {
	h := newHarness(t)
	for _, target := range []string{"/", "/v2/Org/manifests/1", appPath + ".x", "/v2/org/app/blobs/x", appPath + "1?ns=evil.example"} {
		get := h.get(target, "X-Request-Id: same")
		head := h.head(target, "X-Request-Id: same")
		if get.StatusCode != head.StatusCode || headerText(get) != headerText(head) || len(head.body) != 0 {
			t.Errorf("%s: GET\n%sHEAD\n%s", target, headerText(get), headerText(head))
		}
	}
}

func headerText(a answer) string {
	var b strings.Builder
	_ = a.Header.Write(&b)
	return http.StatusText(a.StatusCode) + "\n" + b.String()
}

// TestTolerated is the part of the table that is no error.
func TestTolerated(t *testing.T) {
	h := newHarness(t)
	image := h.hub.AddImage("org/app", "1", 100)
	f := func(name, raw string, status int) answer {
		t.Helper()
		a := h.raw("GET", raw)
		if a.StatusCode != status || a.err != nil {
			t.Errorf("%s: got %d (%v), want %d: %s", name, a.StatusCode, a.err, status, cutBody(a.body))
		}
		return a
	}
	target := appPath + "1"
	f("v2 without slash", request("GET", "/v2"), 200)
	f("v2 with slash", request("GET", "/v2/"), 200)
	f("v2 under a prefix", request("GET", "/ghcr.io/v2/"), 200)
	f("unknown parameters", request("GET", target+"?x=1&y=%zz"), 200)
	f("credentials nobody asked for", request("GET", target, "Authorization: Basic dXNlcjpwYXNz"), 200)
	f("any content coding", request("GET", target, "Accept-Encoding: identity;q=0, zstd, gzip"), 200)
	f("dates", request("GET", target, "If-Modified-Since: Sat, 21 Nov 2026 08:00:00 GMT", "If-Unmodified-Since: x", `If-Match: "x"`), 200)
	f("a range of a manifest", request("GET", target, "Range: bytes=0-1"), 200)
	f("no user agent", request("GET", target, "User-Agent:"), 200)
	f("small body", request("GET", target, "Content-Length: 5")+"hello", 200)
	f("a body that is waited for", request("GET", target, "Content-Length: 5", "Expect: 100-continue")+"hello", 100)
	f("absolute form", request("GET", "http://mirror.test"+target), 200)
	f("connection close", request("GET", target, "Connection: close"), 200)
	f("two proxies", request("GET", target, "Via: 1.1 a, 1.0 b"), 200)
	f("chunked body", request("GET", target, "Transfer-Encoding: chunked")+"3\r\nabc\r\n0\r\n\r\n", 200)
	a := f("HTTP/1.0", "GET "+target+" HTTP/1.0\r\n\r\n", 200)
	a.wantBody(t, image.Manifest)
	for _, r := range h.hub.Requests() {
		if strings.Contains(r.Query, "x=") || r.Header.Get("Authorization") != "" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("the upstream saw %s?%s with %v", r.Path, r.Query, r.Header)
		}
	}
}

// TestPingNeedsNobody checks that the base answers without any upstream, and without asking for credentials.
func TestPingNeedsNobody(t *testing.T) {
	h := newHarness(t)
	h.hub.Stop()
	h.ghcr.Stop()
	for _, target := range []string{"/v2", "/v2/", "/docker.io/v2/", "/v2/?ns=ghcr.io"} {
		get := h.get(target).want(t, 200)
		if string(get.body) != "{}" || get.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: got %q, %v", target, get.body, get.Header)
		}
		if head := h.head(target).want(t, 200); len(head.body) != 0 || head.Header.Get("Content-Length") != "2" {
			t.Errorf("HEAD %s: got %q, %v", target, head.body, head.Header)
		}
	}
}

func TestRequestID(t *testing.T) {
	h := newHarness(t)
	f := func(sent string, echoed bool) {
		t.Helper()
		got := h.get("/v2/", "X-Request-Id: "+sent).want(t, 200).Header.Get("X-Request-Id")
		if (got == sent) != echoed || got == "" {
			t.Errorf("sent %q, got %q", sent, got)
		}
	}
	f("trace-1", true)
	f(strings.Repeat("a", 128), true)
	f(strings.Repeat("a", 129), false)
	f("two words", false)
	f("ü", false)
	f("", false)
	first := h.get("/v2/").Header.Get("X-Request-Id")
	if second := h.get("/v2/").Header.Get("X-Request-Id"); first == second {
		t.Errorf("two requests have the id %q", first)
	}
}
