package server

import (
	"errors"
	"strings"
	"testing"

	"mirror/internal/oci"
)

const (
	digest256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	digest512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce" +
		"47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

// known is a set of registries: docker.io with an alias and by default, ghcr.io with a virtual host, a registry with a
// port and an alias, and a Harbor.
type known struct{ fallback string }

func (known) Lookup(registry string) (string, bool) {
	switch registry {
	case "docker.io", "index.docker.io":
		return "docker.io", true
	case "reg.example:5000", "reg":
		return "reg.example:5000", true
	case "ghcr.io", "harbor.example":
		return registry, true
	}
	return "", false
}

func (known) LookupHost(host string) (string, bool) { return "ghcr.io", host == "ghcr.test" }

func (k known) Default() (string, bool) { return k.fallback, k.fallback != "" }

func routeOf(target, host, fallback string) (route, error) {
	path, query, _ := strings.Cut(target, "?")
	return parseRoute(known{fallback}, []byte(path), []byte(query), []byte(host))
}

func TestRoutes(t *testing.T) {
	f := func(target string, k kind, repository, reference, namespace string) {
		t.Helper()
		r, err := routeOf(target, "mirror.test", "docker.io")
		if err != nil {
			t.Errorf("%s: %v", target, err)
			return
		}
		got := ""
		if r.repository.Name != "" {
			got = r.repository.String()
		}
		if r.kind != k || got != repository || r.reference.String() != reference || r.namespace != namespace {
			t.Errorf("%s: got %s %q %q %q, want %s %q %q %q", target, r.kind, got, r.reference, r.namespace,
				k, repository, reference, namespace)
		}
	}
	f("/v2", kindPing, "", "", "")
	f("/v2/", kindPing, "", "", "")
	f("/v2/?ns=ghcr.io", kindPing, "", "", "ghcr.io")
	f("/ghcr.io/v2", kindPing, "", "", "ghcr.io")
	f("/ghcr.io/v2/", kindPing, "", "", "ghcr.io")

	f("/v2/org/app/manifests/1.2", kindManifest, "docker.io/org/app", "1.2", "")
	f("/v2/org/app/manifests/"+digest256, kindManifest, "docker.io/org/app", digest256, "")
	f("/v2/org/app/manifests/"+digest512, kindManifest, "docker.io/org/app", digest512, "")
	f("/v2/org/app/blobs/"+digest256, kindBlob, "docker.io/org/app", digest256, "")
	f("/v2/org/app/tags/list", kindTags, "docker.io/org/app", "", "")
	f("/v2/org/app/referrers/"+digest256, kindReferrers, "docker.io/org/app", digest256, "")

	// Docker Hub's own images; no other registry has them.
	f("/v2/alpine/manifests/3", kindManifest, "docker.io/library/alpine", "3", "")
	f("/v2/library/alpine/manifests/3", kindManifest, "docker.io/library/alpine", "3", "")
	f("/v2/app/manifests/3?ns=ghcr.io", kindManifest, "ghcr.io/app", "3", "ghcr.io")
	f("/v2/docker.io/alpine/manifests/3", kindManifest, "docker.io/library/alpine", "3", "docker.io")

	// Words of the grammar as names.
	f("/v2/blobs/manifests/blobs", kindManifest, "docker.io/library/blobs", "blobs", "")
	f("/v2/blobs/uploads/manifests/latest", kindManifest, "docker.io/blobs/uploads", "latest", "")
	f("/v2/a/tags/list/tags/list", kindTags, "docker.io/a/tags/list", "", "")
	f("/v2/tags/list/manifests/list", kindManifest, "docker.io/tags/list", "list", "")
	f("/v2/v2/v2/manifests/v2", kindManifest, "docker.io/v2/v2", "v2", "")

	// The namespace wins, and a component that repeats it is stripped once.
	f("/v2/org/app/manifests/1?ns=ghcr.io", kindManifest, "ghcr.io/org/app", "1", "ghcr.io")
	f("/v2/org/app/manifests/1?ns=index.docker.io", kindManifest, "docker.io/org/app", "1", "docker.io")
	f("/v2/ghcr.io/org/app/manifests/1?ns=ghcr.io", kindManifest, "ghcr.io/org/app", "1", "ghcr.io")
	f("/v2/docker.io/org/app/manifests/1?ns=index.docker.io", kindManifest, "docker.io/org/app", "1", "docker.io")
	f("/v2/reg/org/app/manifests/1?ns=reg.example%3A5000", kindManifest, "reg.example:5000/org/app", "1", "reg.example:5000")
	f("/v2/ghcr.io/ghcr.io/app/manifests/1?ns=ghcr.io", kindManifest, "ghcr.io/ghcr.io/app", "1", "ghcr.io")
	f("/v2/ghcr.io/manifests/1?ns=ghcr.io", kindManifest, "ghcr.io/ghcr.io", "1", "ghcr.io")
	f("/v2/docker.io/library/alpine/manifests/1?ns=harbor.example", kindManifest,
		"harbor.example/docker.io/library/alpine", "1", "harbor.example")
	f("/v2/org/app/manifests/1?ns=ghcr.io&ns=ghcr.io", kindManifest, "ghcr.io/org/app", "1", "ghcr.io")

	// The path prefix, alone and with the same namespace.
	f("/ghcr.io/v2/org/app/manifests/1", kindManifest, "ghcr.io/org/app", "1", "ghcr.io")
	f("/reg/v2/org/app/manifests/1", kindManifest, "reg.example:5000/org/app", "1", "reg.example:5000")
	f("/ghcr.io/v2/docker.io/app/manifests/1", kindManifest, "ghcr.io/docker.io/app", "1", "ghcr.io")
	f("/docker.io/v2/org/app/manifests/1?ns=index.docker.io", kindManifest, "docker.io/org/app", "1", "docker.io")

	// The first component.
	f("/v2/ghcr.io/org/app/manifests/1", kindManifest, "ghcr.io/org/app", "1", "ghcr.io")
	f("/v2/reg/app/manifests/1", kindManifest, "reg.example:5000/app", "1", "reg.example:5000")

	// Escapes that mean the same as the plain byte.
	f("/v2/org/app/blobs/"+strings.Replace(digest256, ":", "%3A", 1), kindBlob, "docker.io/org/app", digest256, "")
	f("/v2/org/app/blobs/"+strings.Replace(digest256, ":", "%3a", 1), kindBlob, "docker.io/org/app", digest256, "")
	f("/v2/%6Frg/app/manifests/1%2e2", kindManifest, "docker.io/org/app", "1.2", "")

	// Parameters that nobody knows, and empty ones.
	f("/v2/org/app/manifests/1?x=%zz&ns=&&=&a", kindManifest, "docker.io/org/app", "1", "")
}

func TestRouteByHost(t *testing.T) {
	f := func(target, host, want string) {
		t.Helper()
		r, err := routeOf(target, host, "docker.io")
		if err != nil || r.repository.String() != want || (r.namespace != "" && host == "ghcr.test") {
			t.Errorf("%s at %s: got %q, namespace %q, %v; want %q", target, host, r.repository, r.namespace, err, want)
		}
	}
	f("/v2/org/app/manifests/1", "ghcr.test", "ghcr.io/org/app")
	f("/v2/app/manifests/1", "ghcr.test", "ghcr.io/app")
	f("/v2/x.example/app/manifests/1", "ghcr.test", "ghcr.io/x.example/app")
	f("/v2/harbor.example/org/app/manifests/1", "mirror.test", "harbor.example/org/app")
	f("/v2/org/app/manifests/1?ns=reg", "mirror.test", "reg.example:5000/org/app")
}

func TestRouteRefusals(t *testing.T) {
	f := func(target string, k kind, status int, code oci.Code) {
		t.Helper()
		r, err := routeOf(target, "mirror.test", "docker.io")
		if err == nil {
			t.Errorf("%q: got %+v, want %d %s", target, r, status, code)
			return
		}
		if got := refusalFor(err, r.kind, ""); got.status != status || got.code != code || r.kind != k {
			t.Errorf("%q: got %s %d %s (%v), want %s %d %s", target, r.kind, got.status, got.code, err, k, status, code)
		}
	}
	// Not below the base.
	f("/", kindOther, 404, oci.NameUnknown)
	f("/healthz", kindOther, 404, oci.NameUnknown)
	f("/v3/", kindOther, 404, oci.NameUnknown)
	f("/a/b/v2/org/app/manifests/1", kindOther, 404, oci.NameUnknown)
	f("/unknown/v2/", kindPing, 404, oci.NameUnknown)
	f("/unknown/v2/app/manifests/1", kindManifest, 404, oci.NameUnknown)
	f("/v2/_catalog", kindOther, 404, oci.NameUnknown)
	f("/v2/_oci/ext/discover", kindOther, 404, oci.NameUnknown)
	f("/v2/org/app/_oci/ext/discover", kindOther, 404, oci.NameUnknown)
	f("/v2/org/app", kindOther, 404, oci.NameUnknown)
	f("/v2/org/app/tags/lists", kindOther, 404, oci.NameUnknown)
	f("/v2/org/app/blobs/uploads/", kindOther, 405, oci.Unsupported)
	f("/v2/org/app/blobs/uploads/7f3a", kindOther, 405, oci.Unsupported)

	// The name.
	f("/v2/Org/app/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/org/a___b/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/org/a..b/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/org/-app/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/org/app-/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/org/app:1/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/tags/list", kindOther, 404, oci.NameUnknown)
	f("/v2/"+strings.Repeat("a", 256)+"/manifests/1", kindManifest, 400, oci.NameInvalid)
	f("/v2/"+strings.Repeat("a/", 33)+"manifests/1", kindManifest, 400, oci.NameInvalid)

	// The raw path.
	f("//v2/org/app/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2//org/app/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2/org//app/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/tags/list/", kindOther, 400, oci.NameInvalid)
	f("/v2/org/../app/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2/./app/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/..", kindOther, 400, oci.NameInvalid)
	f("/v2/org/%2e%2e/app/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2/org%2Fapp/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2/org%5Capp/manifests/1", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/%00", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/%252e", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/%4", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/%zz", kindOther, 400, oci.NameInvalid)
	f(`/v2/org\app/manifests/1`, kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/a\x01b", kindOther, 400, oci.NameInvalid)
	f("/v2/org/app/manifests/\xff\xfe", kindOther, 400, oci.NameInvalid)
	f("v2/org/app/manifests/1", kindOther, 400, oci.NameInvalid)
	f("", kindOther, 400, oci.NameInvalid)

	// The reference.
	f("/v2/org/app/manifests/.INVALID_MANIFEST_NAME", kindManifest, 404, oci.ManifestUnknown)
	f("/v2/org/app/manifests/"+strings.Repeat("a", 129), kindManifest, 404, oci.ManifestUnknown)
	f("/v2/org/app/manifests/a+b", kindManifest, 404, oci.ManifestUnknown)
	f("/v2/org/app/manifests/sha256:totallywrong", kindManifest, 400, oci.DigestInvalid)
	f("/v2/org/app/manifests/"+strings.ToUpper(digest256), kindManifest, 400, oci.DigestInvalid)
	f("/v2/org/app/manifests/sha256:"+strings.ToUpper(digest256[7:]), kindManifest, 400, oci.DigestInvalid)
	f("/v2/org/app/manifests/tag@"+digest256, kindManifest, 400, oci.DigestInvalid)
	f("/v2/org/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e", kindManifest, 400, oci.DigestInvalid)
	f("/v2/org/app/manifests/sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564", kindManifest, 400, oci.DigestInvalid)
	f("/v2/org/app/blobs/latest", kindBlob, 400, oci.DigestInvalid)
	f("/v2/org/app/blobs/sha384:"+strings.Repeat("a", 96), kindBlob, 400, oci.DigestInvalid)
	f("/v2/org/app/referrers/"+digest256[:70], kindReferrers, 400, oci.DigestInvalid)

	// The registry.
	for _, ns := range []string{"evil.example", "127.0.0.1", "%5B::1%5D", "localhost", "10.0.0.1:80", "http://ghcr.io", "user@ghcr.io",
		"ghcr.io/", "ghcr.io:99999", "*", strings.Repeat("n", 300)} {
		f("/v2/org/app/manifests/1?ns="+ns, kindManifest, 404, oci.NameUnknown)
	}
	f("/v2/?ns=evil.example", kindPing, 404, oci.NameUnknown)
	f("/v2/org/app/manifests/1?ns=ghcr.io&ns=docker.io", kindManifest, 400, oci.NameInvalid)
	f("/docker.io/v2/org/app/manifests/1?ns=ghcr.io", kindManifest, 400, oci.NameInvalid)
	f("/unknown/v2/org/app/manifests/1?ns=ghcr.io", kindManifest, 404, oci.NameUnknown)
	f("/v2/org/app/manifests/1?ns=%zz", kindManifest, 400, oci.Unsupported)
	f("/v2/private.example/org/app/manifests/1", kindManifest, 404, oci.NameUnknown)
}

func TestRouteWithoutDefault(t *testing.T) {
	r, err := routeOf("/v2/org/app/manifests/1", "mirror.test", "")
	if got := refusalFor(err, r.kind, ""); err == nil || got.status != 404 || !strings.Contains(got.message, "names no registry") {
		t.Errorf("got %v, want 404 that says how to name a registry", err)
	}
	if _, err := routeOf("/v2/", "mirror.test", ""); err != nil {
		t.Errorf("ping: %v", err)
	}
	// A default that is not Docker Hub may have names with a dot.
	if r, err := routeOf("/v2/x.example/app/manifests/1", "", "harbor.example"); err != nil || r.repository.Name != "x.example/app" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestUnknownRegistryIsNamedAndCut(t *testing.T) {
	_, err := routeOf("/v2/a/manifests/1?ns="+strings.Repeat("%22", 600), "", "docker.io")
	message := refusalFor(err, kindManifest, "").message
	if strings.Count(message, `\"`) != 255 {
		t.Errorf("got %q, want 255 quoted marks", message)
	}
}

func TestQuery(t *testing.T) {
	f := func(raw string, want query) {
		t.Helper()
		got, err := parseQuery([]byte(raw))
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", raw, got, err, want)
		}
	}
	f("", query{})
	f("ns=docker.io", query{ns: "docker.io"})
	f("ns=reg%3A5000&n=5&last=a", query{ns: "reg:5000", n: "5", last: "a"})
	f("artifactType=application%2Fx%2Bjson&page=a%3D1%26b", query{artifactType: "application/x+json", page: "a=1&b"})
	f("n=1&n=2", query{n: "1"})
	f("n&last=&NS=x", query{})
	if _, err := parseQuery([]byte("last=" + strings.Repeat("a", maxQueryValue+1))); err == nil {
		t.Error("a value beyond the limit was taken")
	}
}

func TestPageLength(t *testing.T) {
	f := func(text string, want int) {
		t.Helper()
		if got, err := pageLength(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	f("", 1000)
	f("0", 0)
	f("00", 0)
	f("7", 7)
	f("1000", 1000)
	f("1001", 1000)
	f("99999999999999999999999", 1000)
	for _, text := range []string{"-1", "+1", "1.5", "x", " 1", "1e3", "٣"} {
		if got, err := pageLength(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

// TestRouteAllocations keeps the hot path lean: the path as text, and nothing else.
func TestRouteAllocations(t *testing.T) {
	path, host := []byte("/v2/org/app/blobs/"+digest256), []byte("mirror.test")
	var names registries = known{"docker.io"}
	got := testing.AllocsPerRun(100, func() {
		if _, err := parseRoute(names, path, nil, host); err != nil {
			t.Fatal(err)
		}
	})
	// One for the path, one for the host.
	if got > 2 {
		t.Errorf("got %v allocations for a route, want at most 2", got)
	}
}

func FuzzRoute(f *testing.F) {
	for _, seed := range []string{
		"/v2/", "/v2", "/", "", "/ghcr.io/v2/org/app/manifests/1", "/v2/org/app/tags/list?n=1&last=a", "/v2/a/blobs/uploads/x",
		"/v2/org/app/blobs/" + digest256 + "?ns=ghcr.io", "/v2/ghcr.io/org/app/manifests/1?ns=ghcr.io", "/v2/%2e%2e/%3A",
		"/v2/a/referrers/" + digest512 + "?artifactType=x&page=y", "//v2/../a", "/v2/a/manifests/\xff", "/v2/a?ns=%",
	} {
		f.Add(seed, "mirror.test")
	}
	f.Fuzz(func(t *testing.T, target, host string) {
		r, err := routeOf(target, host, "docker.io")
		if err != nil {
			if got := refusalFor(err, r.kind, ""); got.status < 400 || got.status >= 500 {
				t.Fatalf("%q: a stranger's request gives %d: %v", target, got.status, err)
			}
			return
		}
		if r.kind == kindPing {
			return
		}
		if _, err := oci.NewRepository(r.repository.Registry, r.repository.Name); err != nil {
			t.Fatalf("%q: repository %q: %v", target, r.repository, err)
		}
		if _, ok := (known{}).Lookup(r.repository.Registry); !ok {
			t.Fatalf("%q: registry %q is not configured", target, r.repository.Registry)
		}
		checkReference(t, r)
	})
}

// checkReference fails the test when a route has another reference than its kind allows.
func checkReference(t *testing.T, r route) {
	switch r.kind {
	case kindBlob, kindReferrers:
		if !r.reference.IsDigest() {
			t.Fatalf("%s without a digest", r.kind)
		}
	case kindManifest:
		if !r.reference.IsDigest() && !oci.ValidTag(r.reference.Tag) {
			t.Fatalf("manifest with the reference %q", r.reference)
		}
	case kindTags:
		if r.reference != (oci.Reference{}) {
			t.Fatalf("tags with the reference %q", r.reference)
		}
	default:
		t.Fatalf("route of kind %s", r.kind)
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "ns=docker.io&n=1", "ns=a&ns=b", "last=%zz", "page=%61+b&&=&artifactType", "n=%00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := parseQuery(raw)
		if err == nil {
			return
		}
		var refused *refusal
		var invalid *oci.Error
		if !errors.As(err, &refused) && !errors.As(err, &invalid) {
			t.Fatalf("%q: %v is no answer", raw, err)
		}
	})
}
