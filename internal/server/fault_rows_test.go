package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mirror/internal/cache"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// hub returns options that change the configuration of the upstream.
func hub(change func(*upstream.Config)) func(*options) {
	return func(o *options) { o.hub = change }
}

func nothing(*harness, upstreamtest.Image) {}

// unreachable has the failures of name resolution, dial and TLS.
func unreachable() []faultRow {
	const gone = "502 UNAVAILABLE |  | closed"
	return []faultRow{
		{name: "name that nobody knows", fail: nothing,
			options: hub(func(c *upstream.Config) { c.Endpoints[0] = "http://registry..invalid" }),
			tag:     gone, digest: gone, blob: gone},
		{name: "connection refused",
			fail: func(h *harness, _ upstreamtest.Image) { h.hub.Stop() },
			tag:  gone, stale: "200 STALE |  | closed", digest: gone, blob: gone},
		{name: "no TLS", fail: nothing,
			options: hub(func(c *upstream.Config) { c.Endpoints[0] = strings.Replace(c.Endpoints[0], "http", "https", 1) }),
			tag:     "502 UNAVAILABLE |  | closed", digest: gone, blob: gone},
		{name: "connection refused by the first of two", fail: nothing,
			options: hub(func(c *upstream.Config) { c.Endpoints = []string{"http://127.0.0.1:1", c.Endpoints[0]} }),
			tag:     "200 MISS | GET | closed", stale: "200 HIT | HEAD | closed", digest: "200 MISS | GET | closed", blob: "200 MISS | GET | closed"},
	}
}

// refusing has the answers that say something of the content, or of who asks.
func refusing(t *testing.T) []faultRow {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	signedIn := hub(func(c *upstream.Config) {
		c.Credentials = upstream.Credentials{Username: "robot", PasswordFile: password}
	})
	const denied, missing = "403 DENIED | GET | closed", "404 MANIFEST_UNKNOWN | GET | closed"
	return []faultRow{
		{name: "401 that a token satisfies",
			fail: func(h *harness, _ upstreamtest.Image) { h.hub.RequireToken("", "") },
			tag:  "200 MISS | GET GET | closed", stale: "200 HIT | HEAD HEAD | closed", digest: "200 MISS | GET GET | closed", blob: "200 MISS | GET GET | closed"},
		{name: "401 without credentials",
			fail: func(h *harness, _ upstreamtest.Image) {
				h.hub.RequireToken("", "")
				h.hub.SetPrivate("org/app")
			},
			tag: "404 NAME_UNKNOWN | GET GET | closed", stale: "404 NAME_UNKNOWN | HEAD HEAD | closed",
			digest: "404 NAME_UNKNOWN | GET GET | closed", blob: "404 NAME_UNKNOWN | GET GET | closed"},
		{name: "401 with credentials", options: signedIn,
			fail: func(h *harness, _ upstreamtest.Image) { h.hub.RequireToken("robot", "another") },
			tag:  "502 UNAVAILABLE | GET | closed", stale: "502 UNAVAILABLE | HEAD | closed",
			digest: "502 UNAVAILABLE | GET | closed", blob: "502 UNAVAILABLE | GET | closed"},
		{name: "401 to a token of the credentials", options: signedIn,
			fail: func(h *harness, _ upstreamtest.Image) {
				h.hub.RequireToken("robot", "secret")
				h.hub.Fail(upstreamtest.Manifest, -1, unauthorized(h))
				h.hub.Fail(upstreamtest.Blob, -1, unauthorized(h))
			},
			tag: "502 UNAVAILABLE | GET GET | closed", stale: "502 UNAVAILABLE | HEAD HEAD | closed",
			digest: "502 UNAVAILABLE | GET GET | closed", blob: "502 UNAVAILABLE | GET GET | closed"},
		{name: "403", fail: failing(-1, upstreamtest.Fault{Status: 403}),
			tag: denied, stale: "403 DENIED | HEAD | closed", digest: denied, blob: denied},
		{name: "404", fail: failing(-1, upstreamtest.Fault{Status: 404}),
			tag: missing, stale: "404 MANIFEST_UNKNOWN | HEAD | closed", digest: missing, blob: "404 BLOB_UNKNOWN | GET | closed"},
		{name: "410", fail: failing(-1, upstreamtest.Fault{Status: 410}),
			tag: missing, stale: "404 MANIFEST_UNKNOWN | HEAD | closed", digest: missing, blob: "404 BLOB_UNKNOWN | GET | closed"},
		{name: "404 that says that there is no such repository",
			fail: failing(-1, upstreamtest.Fault{Status: 404, Body: `{"errors":[{"code":"NAME_UNKNOWN","message":"no such thing"}]}`}),
			tag:  "404 NAME_UNKNOWN | GET | closed", stale: "404 MANIFEST_UNKNOWN | HEAD | closed", // an answer to HEAD has no body
			digest: "404 NAME_UNKNOWN | GET | closed", blob: "404 NAME_UNKNOWN | GET | closed"},
		{name: "404 for a blob that another repository has", fail: onlyElsewhere,
			blob: "404 BLOB_UNKNOWN | HEAD | closed"},
		{name: "405 to HEAD",
			fail: func(h *harness, _ upstreamtest.Image) {
				h.hub.FailMethod(upstreamtest.Manifest, "HEAD", -1, upstreamtest.Fault{Status: 405})
			},
			tag: "200 MISS | GET | closed", stale: "200 MISS | HEAD GET | closed", digest: "200 MISS | GET | closed"},
		{name: "406 once", fail: failing(1, upstreamtest.Fault{Status: 406}),
			tag: "200 MISS | GET GET | closed", stale: "200 MISS | HEAD GET | closed", digest: "200 MISS | GET GET | closed"},
		{name: "415", fail: failing(-1, upstreamtest.Fault{Status: 415}),
			tag: "404 MANIFEST_UNKNOWN | GET GET | closed", stale: "404 MANIFEST_UNKNOWN | HEAD GET GET | closed",
			digest: "404 MANIFEST_UNKNOWN | GET GET | closed"},
		{name: "429", fail: failing(-1, upstreamtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}}),
			tag: "429 TOOMANYREQUESTS after 7 | GET | closed", stale: "200 STALE | HEAD | closed",
			digest: "429 TOOMANYREQUESTS after 7 | GET | closed", blob: "429 TOOMANYREQUESTS after 7 | GET | closed"},
		{name: "429 that names no time", fail: failing(-1, upstreamtest.Fault{Status: 429}),
			tag: "429 TOOMANYREQUESTS after 60 | GET | closed", stale: "200 STALE | HEAD | closed",
			digest: "429 TOOMANYREQUESTS after 60 | GET | closed", blob: "429 TOOMANYREQUESTS after 60 | GET | closed"},
		{name: "429 for a day", fail: failing(-1, upstreamtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"86400"}}}),
			tag: "429 TOOMANYREQUESTS after 3600 | GET | closed"},
	}
}

// unauthorized is a 401 that names the token service of the registry.
func unauthorized(h *harness) upstreamtest.Fault {
	return upstreamtest.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {`Bearer realm="` + h.hub.URL + `/token",service="hub"`}}}
}

// onlyElsewhere takes a blob from its repository when another has it, at the registry and here.
func onlyElsewhere(h *harness, image upstreamtest.Image) {
	layer := image.Layers[0]
	h.hub.AddBlob("org/other", layer.Bytes)
	h.get(blobPath("org/other", layer.Digest)).want(h.t, 200)
	h.stored(layer.Digest)
	h.hub.Remove("org/app", layer.Digest)
}

// troubled has the answers that say that the registry cannot answer.
func troubled() []faultRow {
	const down = "502 UNAVAILABLE | GET GET | closed"
	rows := []faultRow{{name: "500 once", fail: failing(1, upstreamtest.Fault{Status: 500}),
		tag: "200 MISS | GET GET | closed", stale: "200 HIT | HEAD HEAD | closed", digest: "200 MISS | GET GET | closed", blob: "200 MISS | GET GET | closed"}}
	for _, status := range []int{500, 502, 503, 504, 520} {
		rows = append(rows, faultRow{name: http.StatusText(status) + " for ever", fail: failing(-1, upstreamtest.Fault{Status: status}),
			tag: down, stale: "200 STALE | HEAD HEAD | closed", digest: down, blob: down})
	}
	return rows
}

// redirecting has the places that a registry must not point to, and those that refuse. That http is refused after https,
// and a private address, is tested in upstream.
func redirecting() []faultRow {
	loop := strings.TrimSpace(strings.Repeat("GET ", 6))
	lost := func(asked string) string { return "502 UNAVAILABLE | " + asked + " | closed" }
	cdn := func(n int, status int) func(*harness, upstreamtest.Image) {
		return func(h *harness, _ upstreamtest.Image) {
			h.hub.UseCDN()
			h.hub.Fail(upstreamtest.CDN, n, upstreamtest.Fault{Status: status})
		}
	}
	return []faultRow{
		{name: "redirect in a circle",
			fail: func(h *harness, _ upstreamtest.Image) {
				h.hub.Hook(func(r *http.Request) *upstreamtest.Fault { return &upstreamtest.Fault{Redirect: r.URL.Path} })
			},
			tag: lost(loop), stale: "200 STALE | " + strings.ReplaceAll(loop, "GET", "HEAD") + " | closed", digest: lost(loop), blob: lost(loop)},
		{name: "redirect to no web address", fail: failing(-1, upstreamtest.Fault{Redirect: "ftp://registry.invalid/x"}),
			tag: lost("GET"), stale: "200 STALE | HEAD | closed", digest: lost("GET"), blob: lost("GET")},
		{name: "signed address that has expired", fail: cdn(1, 403), blob: "200 MISS | GET GET GET GET | closed"},
		{name: "storage that refuses", fail: cdn(-1, 403), blob: lost("GET GET GET GET")},
		{name: "storage in trouble", fail: cdn(-1, 503), blob: lost("GET GET GET GET")},
	}
}

// sendingWrong has content that is not what was asked for.
func sendingWrong() []faultRow {
	const large, half = 3 << 20, 3 << 19
	cut := upstreamtest.Fault{CutAfter: half}
	return []faultRow{
		{name: "web page", fail: failing(-1, upstreamtest.Fault{HTML: true}),
			tag: "502 UNAVAILABLE | GET | closed", stale: "200 STALE | HEAD | closed",
			digest: "502 UNAVAILABLE | GET | closed", blob: "502 UNAVAILABLE | GET | closed"},
		{name: "truncated once", layer: large, fail: failing(1, upstreamtest.Fault{CutAfter: 50}),
			tag: "200 MISS | GET GET | closed", digest: "200 MISS | GET GET | closed", blob: "200 MISS | GET GET | closed"},
		{name: "truncated for ever", fail: failing(-1, upstreamtest.Fault{CutAfter: 50}),
			tag: "502 UNAVAILABLE | GET GET | closed", digest: "502 UNAVAILABLE | GET GET | closed", blob: "200 MISS | GET GET | closed"},
		{name: "longer than the manifest says",
			fail: func(h *harness, image upstreamtest.Image) {
				h.get(manifestPath("org/app", image.Digest.String())).want(h.t, 200)
				failing(-1, upstreamtest.Fault{Extra: 5})(h, image)
			},
			blob: "502 UNAVAILABLE | GET GET | closed"},
		{name: "longer than its digest says", fail: failing(-1, upstreamtest.Fault{Extra: 5}),
			tag: "502 UNAVAILABLE | GET GET | closed", digest: "502 UNAVAILABLE | GET GET | closed", blob: "502 UNAVAILABLE | GET GET | closed"},
		{name: "200 to a resume", layer: large, fail: inTurn(cut, upstreamtest.Fault{NoRange: true}),
			blob: "200 MISS | GET GET | closed"},
		{name: "206 with a wrong Content-Range", layer: large, fail: inTurn(cut, upstreamtest.Fault{ContentRange: "bytes 0-9/10"}),
			blob: "200 MISS | GET GET GET | closed"},
		{name: "wrong digest once", fail: failing(1, upstreamtest.Fault{Flip: []int64{40}}),
			// By tag, what was claimed and what came differ, and neither can be had by its digest.
			tag: "502 UNAVAILABLE | GET GET | closed", digest: "200 MISS | GET GET | closed", blob: "200 MISS | GET GET | closed"},
		{name: "wrong digest", fail: failing(-1, upstreamtest.Fault{Flip: []int64{40}}),
			tag: "502 UNAVAILABLE | GET GET | closed", digest: "502 UNAVAILABLE | GET GET | closed", blob: "502 UNAVAILABLE | GET GET | closed"},
		{name: "wrong digest of what streams", layer: large, fail: failing(-1, upstreamtest.Fault{Flip: []int64{large - 1}}),
			blob: "200 MISS short | GET | closed"},
		{name: "no length", layer: large, fail: failing(-1, upstreamtest.Fault{NoLength: true}),
			tag: "200 MISS | GET | closed", stale: "200 HIT | HEAD | closed", digest: "200 MISS | GET | closed", blob: "200 MISS | GET | closed"},
		{name: "packed though nobody asked for it", fail: failing(-1, upstreamtest.Fault{Gzip: true}),
			tag: "502 UNAVAILABLE | GET GET | closed", stale: "200 HIT | HEAD | closed",
			digest: "502 UNAVAILABLE | GET GET | closed", blob: "502 UNAVAILABLE | GET GET | closed"},
	}
}

// ourOwn has the faults of the mirror's machine, for which no client must suffer.
func ourOwn() []faultRow {
	full := func(o *options) { o.disk = func(c *cache.Config) { c.MaxSize = 1 } }
	return []faultRow{
		{name: "no room", options: full, layer: 3 << 20, fail: nothing,
			tag: "200 MISS | GET | closed", stale: "200 MISS | HEAD GET | closed", digest: "200 MISS | GET | closed",
			blob: "200 MISS | GET GET | closed"}, // once to learn the length, and once more to pass it through
		{name: "stored content is damaged", options: func(o *options) { o.memory = 1 }, layer: 3 << 20, fail: damage,
			blob: "200 MISS | GET | closed"},
	}
}

// damage stores the layer, and changes a byte of its file.
func damage(h *harness, image upstreamtest.Image) {
	layer := image.Layers[0]
	h.get(blobPath("org/app", layer.Digest)).want(h.t, 200)
	h.stored(layer.Digest)
	encoded := layer.Digest.Encoded()
	file, err := os.OpenFile(filepath.Join(h.dir, "blobs", "sha256", encoded[:2], encoded), os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{layer.Bytes[7] ^ 0xff}, 7); err != nil {
		h.t.Fatal(err)
	}
}

// tooSlow has the answers that do not come in time, or after many tries.
func tooSlow() []faultRow {
	breaksOff := func(h *harness, _ upstreamtest.Image) {
		h.hub.Fail(upstreamtest.Blob, 1, upstreamtest.Fault{CutAfter: 3 << 19})
		h.hub.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{Status: 503})
	}
	return []faultRow{
		{name: "no headers", fail: failing(-1, upstreamtest.Fault{Hang: true}),
			tag: "504 UNAVAILABLE | GET | open", stale: "200 STALE | HEAD | closed",
			digest: "504 UNAVAILABLE | GET | open", blob: "504 UNAVAILABLE | GET | open"},
		{name: "a part, and then nothing", layer: 3 << 20, fail: failing(1, upstreamtest.Fault{StallAfter: 100}),
			tag: "504 UNAVAILABLE | GET | closed", digest: "504 UNAVAILABLE | GET | closed", blob: "200 MISS | GET GET | closed"},
		{name: "truncated, and no more", layer: 3 << 20, fail: breaksOff, // five tries, each repeated once
			blob: "200 MISS short | GET" + strings.Repeat(" GET GET", 5) + " | closed"},
	}
}
