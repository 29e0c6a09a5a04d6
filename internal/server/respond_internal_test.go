package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mirror/internal/cache"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// sentinels are the exported errors of the packages below, by name. TestEveryErrorHasARule compares the names with
// the source, so that an error added there is given an answer here.
var sentinels = map[string]error{
	"cache.ErrNotFound":             cache.ErrNotFound,
	"cache.ErrWrongContent":         cache.ErrWrongContent,
	"cache.ErrNoRoom":               cache.ErrNoRoom,
	"cache.ErrDisk":                 cache.ErrDisk,
	"cache.ErrNoRange":              cache.ErrNoRange,
	"cache.ErrBusy":                 cache.ErrBusy,
	"cache.ErrClosed":               cache.ErrClosed,
	"cache.ErrAbandoned":            cache.ErrAbandoned,
	"mirror.ErrNoUpstream":          mirror.ErrNoUpstream,
	"mirror.ErrNeverHeld":           mirror.ErrNeverHeld,
	"upstream.ErrNotFound":          upstream.ErrNotFound,
	"upstream.ErrUnknownRepository": upstream.ErrUnknownRepository,
	"upstream.ErrNoRepository":      upstream.ErrNoRepository,
	"upstream.ErrDenied":            upstream.ErrDenied,
	"upstream.ErrUnauthorized":      upstream.ErrUnauthorized,
	"upstream.ErrTooManyRequests":   upstream.ErrTooManyRequests,
	"upstream.ErrNotAllowed":        upstream.ErrNotAllowed,
	"upstream.ErrOffline":           upstream.ErrOffline,
	"upstream.ErrUnavailable":       upstream.ErrUnavailable,
	"upstream.ErrTimeout":           upstream.ErrTimeout,
	"upstream.ErrWrongContent":      upstream.ErrWrongContent,
	"upstream.ErrTooLarge":          upstream.ErrTooLarge,
}

// forOperators are the errors of what only the admin API asks for, which answers with them itself.
var forOperators = []string{"mirror.ErrNotHeld", "mirror.ErrNotPinned", "mirror.ErrPinned"}

// forPeers are the errors of what only other nodes ask for, which never reach a client.
var forPeers = []string{"cache.ErrNoSpan", "cache.ErrSuspect"}

func TestEveryErrorHasARule(t *testing.T) {
	var names []string
	for _, pkg := range []string{"cache", "mirror", "upstream"} {
		for _, name := range exported(t, "../"+pkg, func(spec *ast.ValueSpec, name string) bool { return strings.HasPrefix(name, "Err") }) {
			names = append(names, pkg+"."+name)
		}
	}
	elsewhere := slices.Concat(forOperators, forPeers)
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(elsewhere, name) })
	slices.Sort(names)
	if want := slices.Sorted(maps.Keys(sentinels)); !slices.Equal(names, want) {
		t.Errorf("the packages below export %q, the table of this test has %q", names, want)
	}
	for name, err := range sentinels {
		if got := refusalFor(fmt.Errorf("wrapped: %w", err), kindBlob, "docker.io"); got.status == 500 {
			t.Errorf("%s has no rule", name)
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	isCode := func(spec *ast.ValueSpec, _ string) bool {
		name, ok := spec.Type.(*ast.Ident)
		return ok && name.Name == "Code"
	}
	names := exported(t, "../oci", isCode)
	if len(names) != len(statuses) || len(names) == 0 {
		t.Errorf("oci has the codes %q, the table has %d", names, len(statuses))
	}
	for code, status := range statuses {
		got := refusalFor(fmt.Errorf("wrapped: %w", &oci.Error{Code: code, Message: "x"}), kindBlob, "")
		if got.status != status || got.code != code {
			t.Errorf("%s: got %d %s, want %d", code, got.status, got.code, status)
		}
	}
}

// exported returns the exported names of variables and constants of a package that pass a test.
func exported(t *testing.T, dir string, pass func(spec *ast.ValueSpec, name string) bool) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s (%v)", dir, err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for _, name := range spec.Names {
				if name.IsExported() && pass(spec, name.Name) {
					names = append(names, name.Name)
				}
			}
			return false
		})
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestErrorAnswers(t *testing.T) {
	f := func(err error, k kind, status int, code oci.Code) {
		t.Helper()
		got := refusalFor(fmt.Errorf("fill: %w", err), k, "docker.io")
		if got.status != status || got.code != code {
			t.Errorf("%v for %s: got %d %s, want %d %s", err, k, got.status, got.code, status, code)
		}
		if strings.Contains(got.message, "{") || got.message == "" {
			t.Errorf("%v: message %q", err, got.message)
		}
	}
	f(upstream.ErrNotFound, kindBlob, 404, oci.BlobUnknown)
	f(upstream.ErrNotFound, kindManifest, 404, oci.ManifestUnknown)
	f(upstream.ErrNotFound, kindTags, 404, oci.NameUnknown)
	f(cache.ErrNotFound, kindBlob, 404, oci.BlobUnknown)
	f(upstream.ErrUnknownRepository, kindManifest, 404, oci.NameUnknown)
	f(upstream.ErrNoRepository, kindBlob, 404, oci.NameUnknown)
	f(upstream.ErrDenied, kindBlob, 403, oci.Denied)
	f(upstream.ErrNotAllowed, kindBlob, 403, oci.Denied)
	f(upstream.ErrUnauthorized, kindBlob, 502, oci.Unavailable)
	f(upstream.ErrTooManyRequests, kindBlob, 429, oci.TooManyRequests)
	f(upstream.ErrUnavailable, kindBlob, 502, oci.Unavailable)
	f(upstream.ErrOffline, kindBlob, 503, oci.Unavailable)
	f(fmt.Errorf("%w: %w", mirror.ErrNeverHeld, upstream.ErrOffline), kindManifest, 404, oci.ManifestUnknown)
	f(upstream.ErrTimeout, kindBlob, 504, oci.Unavailable)
	f(context.DeadlineExceeded, kindBlob, 504, oci.Unavailable)
	f(upstream.ErrWrongContent, kindManifest, 502, oci.Unavailable)
	f(upstream.ErrTooLarge, kindManifest, 502, oci.SizeInvalid)
	f(cache.ErrWrongContent, kindBlob, 502, oci.Unavailable)
	f(cache.ErrClosed, kindBlob, 503, oci.Unavailable)
	f(mirror.ErrNoUpstream, kindBlob, 404, oci.NameUnknown)
	f(&oci.Error{Code: oci.ManifestInvalid, Message: "not JSON"}, kindManifest, 502, oci.ManifestInvalid)
	f(&oci.Error{Code: "FOREIGN", Message: "x"}, kindManifest, 500, oci.Unknown)
	f(errors.New("surprise"), kindBlob, 500, oci.Unknown)
}

func TestRetryAfter(t *testing.T) {
	f := func(err error, want time.Duration) {
		t.Helper()
		if got := refusalFor(err, kindBlob, "docker.io").retryAfter; got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
	limited := func(wait time.Duration) error {
		return errors.Join(&upstream.StatusError{Status: 429, RetryAfter: wait}, upstream.ErrTooManyRequests)
	}
	f(upstream.ErrTooManyRequests, time.Minute)
	f(limited(0), time.Minute)
	f(limited(7*time.Second), 7*time.Second)
	f(limited(time.Millisecond), time.Second)
	f(limited(48*time.Hour), time.Hour)
	f(upstream.ErrUnavailable, 0)
	f(cache.ErrClosed, ownRetryAfter)
}

func TestUpstreamMessageBecomesDetail(t *testing.T) {
	err := errors.Join(&upstream.StatusError{Status: 429, URL: "https://registry.example/v2/x", Message: "pull limit reached"},
		upstream.ErrTooManyRequests)
	body := string(refusalFor(err, kindManifest, "docker.io").body())
	if !strings.Contains(body, `"detail":"pull limit reached"`) || strings.Contains(body, "registry.example") {
		t.Errorf("got %s", body)
	}
}

// What an upstream says when it is in trouble itself may name addresses inside its network, or the mirror's account.
func TestUpstreamMessageOfTroubleStaysHere(t *testing.T) {
	for status, meaning := range map[int]error{503: upstream.ErrUnavailable, 401: upstream.ErrUnauthorized} {
		err := errors.Join(&upstream.StatusError{Status: status, Message: "connect to 10.2.3.4:5000 as robot"}, meaning)
		if body := string(refusalFor(err, kindManifest, "docker.io").body()); strings.Contains(body, "10.2.3.4") {
			t.Errorf("status %d: got %s", status, body)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add("message", "detail")
	f.Add(strings.Repeat("<", 5000), strings.Repeat("\x00", 5000))
	f.Add(strings.Repeat("ü", 700), "\xff\xfe")
	f.Add(strings.Repeat(`"`, 1024), strings.Repeat("\u2028", 400))
	f.Fuzz(func(t *testing.T, message, detail string) {
		body := (&refusal{code: oci.Denied, message: message, detail: detail}).body()
		if len(body) > maxErrorBody {
			t.Fatalf("body of %d bytes", len(body))
		}
		var decoded errorBody
		if err := json.Unmarshal(body, &decoded); err != nil || decoded.Errors[0].Code != oci.Denied {
			t.Fatalf("%s: %v", body, err)
		}
	})
}

func TestQuotable(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := quotable(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	f("plain text", "plain text")
	f(`say "no" \ yes`, `say \"no\" \\ yes`)
	f("a\r\nX-Evil: b\x00\x7f", "a  X-Evil: b  ")
	f("ü", "  ")
}
