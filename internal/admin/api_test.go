package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mirror/internal/admin"
	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/catalog"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

// desk is an admin listener over a mirror of a test registry, which is docker.io to it.
type desk struct {
	t      *testing.T
	base   string
	mirror *mirror.Mirror
	log    *bytes.Buffer // read only after a request has been answered
	*admin.Client
}

func openDesk(t *testing.T, origin *upstreamtest.Registry) *desk {
	t.Helper()
	d := &desk{t: t, log: new(bytes.Buffer)}
	quiet, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	disk := cachetest.Config(t)
	content, err := cache.Open(disk, quiet, reg)
	if err != nil {
		t.Fatal(err)
	}
	names, err := catalog.Open(catalog.Config{Dir: disk.Dir}, quiet, reg)
	if err != nil {
		t.Fatal(err)
	}
	up := upstream.Config{Registry: "docker.io", Default: true, Endpoints: []string{origin.URL}}
	set, err := upstream.New([]upstream.Config{up.WithDefaults()}, "test", "id", quiet, reg)
	if err != nil {
		t.Fatal(err)
	}
	d.mirror = mirror.New(mirror.Parts{Cache: content, Catalog: names, Upstreams: set, ID: "id"}, quiet, reg)
	t.Cleanup(func() {
		d.mirror.Close()
		set.Close()
		cachetest.Settle(content)
		if err := errors.Join(content.Check(context.Background()), content.Close(), names.Close()); err != nil {
			t.Error(err)
		}
	})
	d.base = startLogging(t, admin.Parts{
		Gatherer: reg, Ready: nothing, Version: "v1.2.3", Started: time.Now(), Mirror: func() *mirror.Mirror { return d.mirror },
	}, d.log)
	d.Client, err = admin.NewClient(d.base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// pull brings an image of library/<name> into the mirror.
func (d *desk) pull(name, tag string, image upstreamtest.Image) {
	d.t.Helper()
	repo := oci.Repository{Registry: "docker.io", Name: "library/" + name}
	if _, err := d.mirror.Manifest(d.t.Context(), repo, oci.Reference{Tag: tag}); err != nil {
		d.t.Fatal(err)
	}
	for _, c := range append(image.Layers, image.Config) {
		b, err := d.mirror.Blob(d.t.Context(), repo, c.Digest)
		if err != nil {
			d.t.Fatal(err)
		}
		if _, err := b.WriteRange(new(bytes.Buffer), 0, -1); err != nil {
			d.t.Error(err)
		}
		_ = b.Close() // read to the end
	}
	for len(d.mirror.Fills()) > 0 {
		time.Sleep(time.Millisecond)
	}
}

// read asks for a path and reads the answer into out, strictly.
func (d *desk) read(path string, out any) {
	d.t.Helper()
	status, contentType, body := get(d.t, http.MethodGet, d.base+path)
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil || status != http.StatusOK || contentType != "application/json" {
		d.t.Fatalf("%s: got %d, %s, %.300q, %v", path, status, contentType, body, err)
	}
}

func TestStatus(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/debian", "12", 1000, 2<<20)
	d := openDesk(t, origin)
	d.pull("debian", "12", image)
	d.pull("debian", "12", image)
	origin.Fail(upstreamtest.Blob, -1, upstreamtest.Fault{StallAfter: 1 << 20})
	other := origin.AddImage("library/debian", "13", 3<<20).Layers[0]
	b, err := d.mirror.Blob(t.Context(), oci.Repository{Registry: "docker.io", Name: "library/debian"}, other.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != "v1.2.3" || s.Started.IsZero() || s.Cache.Limit != 1<<30 || s.Cache.Disk.Blobs != 4 || s.Cache.Disk.Bytes < 1000+2<<20 {
		t.Errorf("got %+v", s)
	}
	// Two pulls of four contents, and the layer that arrives.
	if want := (admin.LookupStatus{Hit: 4, Miss: 5, HitRatio: 4.0 / 9}); s.Lookups != want {
		t.Errorf("lookups are %+v, want %+v", s.Lookups, want)
	}
	if s.Traffic.Upstream < 2<<20 || s.Traffic.Saved != s.Traffic.Served-s.Traffic.Upstream {
		t.Errorf("traffic is %+v", s.Traffic)
	}
	if len(s.Fills) != 1 || s.Fills[0].Digest != other.Digest || *s.Fills[0].Size != 3<<20 || !slices.Equal(s.Fills[0].Repositories, []string{"docker.io/library/debian"}) {
		t.Errorf("fills are %+v, want the layer", s.Fills)
	}
	if s.Fills[0].Connections != 1 || s.Fills[0].Ahead {
		t.Errorf("the layer comes as %+v", s.Fills[0])
	}
	if len(s.Upstreams) != 1 || s.Upstreams[0].Registry != "docker.io" || s.Upstreams[0].Endpoints[0].State != "closed" {
		t.Errorf("upstreams are %+v", s.Upstreams)
	}
	if u := s.Upstreams[0]; u.Requests < 5 || u.Traffic.Upstream != s.Traffic.Upstream || u.InFlight.InUse != 1 || u.Transfers.InUse != 1 {
		t.Errorf("of the upstream, %d requests, %+v, %+v in flight, %+v transfers", u.Requests, u.Traffic, u.InFlight, u.Transfers)
	}
	origin.Stop() // which ends the fill
}

func TestTags(t *testing.T) {
	origin := upstreamtest.New(t)
	d := openDesk(t, origin)
	var want []string
	for _, name := range []string{"alpine", "debian"} {
		for _, tag := range []string{"1", "2", "3"} {
			d.pull(name, tag, origin.AddImage("library/"+name, tag, 1000))
			want = append(want, "docker.io/library/"+name+":"+tag)
		}
	}
	f := func(path string, want ...string) (list admin.TagList) {
		t.Helper()
		d.read(path, &list)
		got := make([]string, len(list.Tags))
		for i, tag := range list.Tags {
			got[i] = tag.Repository + ":" + tag.Tag
			if tag.State != mirror.Complete || tag.Pinned || tag.Stored.IsZero() || tag.Blobs != (mirror.Count{Held: 2, Known: 2}) {
				t.Errorf("%s: %+v", path, tag)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
		return list
	}
	if all := f("/api/v1/tags", want...); all.Next != "" || all.Unreferenced == nil || *all.Unreferenced != (admin.Unreferenced{}) {
		t.Errorf("the list of all ends with %+v", all)
	}
	f("/api/v1/tags?repository=alpine", want[:3]...)
	f("/api/v1/tags?repository=docker.io%2Flibrary%2Fdebian", want[3:]...)
	f("/api/v1/tags?repository=ghcr.io%2Forg%2Fapp")
	first := f("/api/v1/tags?n=4", want[:4]...)
	second := f("/api/v1/tags?n=4&last="+url.QueryEscape(first.Next), want[4:]...)
	if first.Next != want[3] || second.Next != "" || second.Unreferenced != nil {
		t.Errorf("next is %q, then %q", first.Next, second.Next)
	}
}

func TestBlobs(t *testing.T) {
	origin := upstreamtest.New(t)
	d := openDesk(t, origin)
	first := origin.AddImage("library/alpine", "1", 1000)
	d.pull("alpine", "1", first)
	d.pull("debian", "1", origin.AddImageOver("library/debian", "1", first.Layers, 2000))
	f := func(path string, want int) (list admin.BlobList) {
		t.Helper()
		d.read(path, &list)
		for _, b := range list.Blobs {
			if b.Digest == first.Layers[0].Digest && len(b.Repositories) != 2 || b.Size == 0 || b.Used.IsZero() || b.Stored.IsZero() {
				t.Errorf("%s: %+v", path, b)
			}
		}
		if len(list.Blobs) != want {
			t.Errorf("%s: got %d blobs, want %d", path, len(list.Blobs), want)
		}
		return list
	}
	f("/api/v1/blobs", 6)
	f("/api/v1/blobs?repository=debian", 4)
	f("/api/v1/blobs?unreferenced=true", 0)
	page := f("/api/v1/blobs?n=4", 4)
	f("/api/v1/blobs?n=4&last="+page.Next, 2)
	if page.Next != page.Blobs[3].Digest.String() {
		t.Errorf("next is %q", page.Next)
	}
}

func TestChanges(t *testing.T) {
	origin := upstreamtest.New(t)
	d := openDesk(t, origin)
	first := origin.AddImage("library/alpine", "1", 1000, 2000)
	second := origin.AddImage("library/alpine", "2", 3000)
	d.pull("alpine", "1", first)
	d.pull("alpine", "2", second)
	f := func(ask func(context.Context, string) (admin.Change, error), text, want string, blobs int) {
		t.Helper()
		done, err := ask(t.Context(), text)
		if err != nil || done.Reference != want || done.Blobs != blobs || (done.Bytes == 0) != (blobs == 0) {
			t.Errorf("%s: got %+v, %v, want %s with %d blobs", text, done, err, want, blobs)
		}
		if line := d.log.String(); !strings.Contains(line, "127.0.0.1 ") || !strings.Contains(line, "reference="+want) || !strings.Contains(line, "component=admin") {
			t.Errorf("%s is logged as %q", text, line)
		}
		d.log.Reset()
	}
	const alpine = "docker.io/library/alpine"
	f(d.Pin, "alpine:1", alpine+"@"+first.Digest.String(), 4)
	f(d.Unpin, first.Digest.String(), first.Digest.String(), 4)
	f(d.Remove, first.Layers[1].Digest.String(), first.Layers[1].Digest.String(), 1)
	f(d.Remove, "alpine:1", alpine+":1", 3)
	f(d.RemoveRepository, "alpine", alpine, 3)
	if d.mirror.Repositories() != nil {
		t.Error("something is left")
	}
}

func TestRefusals(t *testing.T) {
	origin := upstreamtest.New(t)
	image := origin.AddImage("library/alpine", "1", 1000)
	d := openDesk(t, origin)
	d.pull("alpine", "1", image)
	if _, err := d.Pin(t.Context(), "alpine:1"); err != nil {
		t.Fatal(err)
	}
	f := func(wantStatus int, want, method, path string) {
		t.Helper()
		status, contentType, body := get(t, method, d.base+path)
		var p admin.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || contentType != "application/json" || status != wantStatus || !strings.Contains(p.Error+" "+p.Hint, want) {
			t.Errorf("%s %s: got %d, %s, %q, want %d with %q", method, path, status, contentType, body, wantStatus, want)
		}
	}
	f(400, "parameter \"repo\" is not known here: there are repository, n, last", "GET", "/api/v1/tags?repo=alpine")
	f(400, "parameter n is there 2 times", "GET", "/api/v1/tags?n=1&n=2")
	f(400, "n is \"0\": want a number from 1 to 10000", "GET", "/api/v1/tags?n=0")
	f(400, "n is \"10001\"", "GET", "/api/v1/blobs?n=10001")
	f(400, "query is malformed", "GET", "/api/v1/blobs?n=%zz")
	f(400, "unreferenced is \"yes\": want true or false", "GET", "/api/v1/blobs?unreferenced=yes")
	f(400, "want the next of the page before", "GET", "/api/v1/tags?last=alpine:1")
	f(400, "want sha256", "GET", "/api/v1/blobs?last=alpine")
	f(400, "repository name", "GET", "/api/v1/tags?repository=Alpine")
	f(400, "there are none", "GET", "/api/v1/status?verbose=true")
	f(400, "there are none", "DELETE", "/api/v1/tags/alpine:1?force=true")
	f(400, "content is removed by DELETE /api/v1/blobs/", "DELETE", "/api/v1/tags/alpine@"+image.Digest.String())
	f(400, "a tag is removed by DELETE /api/v1/tags/docker.io/library/alpine:1", "DELETE", "/api/v1/blobs/alpine:1")
	f(400, "has no repository", "DELETE", "/api/v1/tags/")
	f(400, "the query names nothing", "PUT", "/api/v1/pins")
	f(404, "docker.io/library/alpine:2 is not held here: mirror list shows what is", "DELETE", "/api/v1/tags/alpine:2")
	f(404, "is not held here", "PUT", "/api/v1/pins?reference=alpine:2")
	f(404, "repository docker.io/library/debian is not held here", "DELETE", "/api/v1/repositories/debian")
	f(409, "docker.io/library/alpine:1 is pinned: unpin it first", "DELETE", "/api/v1/tags/alpine:1")
	f(409, "has no pin of its own", "DELETE", "/api/v1/pins?reference="+image.Layers[0].Digest.String())
	// Other methods change nothing.
	f(404, "docs/api.md", "POST", "/api/v1/tags/alpine:1")
	f(404, "docs/api.md", "GET", "/api/v1/tags/alpine:1")
	f(404, "docs/api.md", "POST", "/api/v1/pins?reference=alpine:1")
	f(400, "has no repository", "DELETE", "/api/v1/blobs")
	f(404, "docs/api.md", "GET", "/api/v2/blobs")
}

// TestPagesChangeNothing sends what browsers send for a page, be it of another origin or of a name that resolves to us.
func TestPagesChangeNothing(t *testing.T) {
	origin := upstreamtest.New(t)
	d := openDesk(t, origin)
	d.pull("alpine", "1", origin.AddImage("library/alpine", "1", 1000))
	f := func(want int, header, value string) {
		t.Helper()
		request, err := http.NewRequest(http.MethodPut, d.base+"/api/v1/pins?reference=alpine:1", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(header, value)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %s: got %d, want %d", header, value, response.StatusCode, want)
		}
	}
	f(http.StatusForbidden, "Origin", "http://elsewhere.example")
	f(http.StatusForbidden, "Origin", "null")
	f(http.StatusForbidden, "Sec-Fetch-Site", "cross-site")
	f(http.StatusForbidden, "Origin", d.base)
	f(http.StatusForbidden, "Sec-Fetch-Site", "same-origin")
	f(http.StatusOK, "User-Agent", "curl")
}

func TestWithoutMirror(t *testing.T) {
	base := start(t, admin.Parts{Gatherer: prometheus.NewRegistry(), Ready: nothing, Mirror: func() *mirror.Mirror { return nil }})
	client, err := admin.NewClient(base)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "starting or stopping") {
		t.Errorf("got %v, want that it starts or stops", err)
	}
}

func TestClientFindsNoMirror(t *testing.T) {
	origin := upstreamtest.New(t)
	f := func(base, want string) {
		t.Helper()
		client, err := admin.NewClient(base)
		if err == nil {
			defer client.Close()
			_, err = client.Status(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", base, err, want)
		}
	}
	f("http://127.0.0.1:1", "no mirror answers at http://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused: start one")
	f(origin.URL, "it is not the admin address of a mirror")
	f("127.0.0.1:5001", "want the URL of an admin listener")
	f("", "want the URL of an admin listener")
}

func TestBaseURL(t *testing.T) {
	f := func(listen, want string) {
		t.Helper()
		if got := admin.BaseURL(listen); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
	f("127.0.0.1:5001", "http://127.0.0.1:5001")
	f(":5001", "http://127.0.0.1:5001")
	f("0.0.0.0:5001", "http://127.0.0.1:5001")
	f("[::]:5001", "http://[::1]:5001")
	f("[fe80::1]:5001", "http://[fe80::1]:5001")
	f("admin.example:80", "http://admin.example:80")
}
