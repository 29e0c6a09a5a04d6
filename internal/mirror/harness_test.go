package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"mirror/internal/cache"
	"mirror/internal/cache/cachetest"
	"mirror/internal/catalog"
	"mirror/internal/mirror"
	"mirror/internal/oci"
	"mirror/internal/upstream"
	"mirror/internal/upstream/upstreamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	always = time.Nanosecond // a tag that is never fresh
	never  = time.Hour       // a tag that stays fresh for the whole test
)

// house is a mirror over one test registry, called registry.test.
type house struct {
	*mirror.Mirror
	t      testing.TB
	origin *upstreamtest.Registry
	reg    *prometheus.Registry
	dir    string
	names  *catalog.Catalog
}

// option changes the upstream's configuration before the start.
type option func(*upstream.Config, *cache.Config)

func fresh(d time.Duration) option {
	return func(u *upstream.Config, _ *cache.Config) { u.Tags.FreshFor = d }
}

func open(t testing.TB, origin *upstreamtest.Registry, options ...option) *house {
	t.Helper()
	disk := cachetest.Config(t)
	up := upstream.Config{Registry: "registry.test", Default: true, Endpoints: []string{origin.URL}}
	for _, o := range options {
		o(&up, &disk)
	}
	return openAll(t, origin, disk, up)
}

// openAll opens a mirror over several registries, the first of which is origin.
func openAll(t testing.TB, origin *upstreamtest.Registry, disk cache.Config, ups ...upstream.Config) *house {
	t.Helper()
	return openWith(t, origin, mirror.Parts{}, slog.New(slog.DiscardHandler), disk, ups...)
}

// openWith opens a mirror whose peers are among parts.
func openWith(t testing.TB, origin *upstreamtest.Registry, parts mirror.Parts, log *slog.Logger, disk cache.Config, ups ...upstream.Config) *house {
	t.Helper()
	for i := range ups {
		ups[i] = ups[i].WithDefaults()
	}
	h := &house{t: t, origin: origin, reg: prometheus.NewRegistry(), dir: disk.Dir}
	c, err := cache.Open(disk, log, h.reg)
	if err != nil {
		t.Fatal(err)
	}
	names, err := catalog.Open(catalog.Config{Dir: disk.Dir}, log, h.reg)
	if err != nil {
		t.Fatal(err)
	}
	set, err := upstream.New(ups, "test", "id", log, h.reg)
	if err != nil {
		t.Fatal(err)
	}
	h.names = names
	parts.Cache, parts.Catalog, parts.Upstreams, parts.ID = c, names, set, "id"
	h.Mirror = mirror.New(parts, log, h.reg)
	t.Cleanup(func() {
		h.Close()
		h.settle()
		if err := errors.Join(c.Check(context.Background()), c.Close(), names.Close()); err != nil {
			t.Error(err)
		}
		set.Close()
	})
	return h
}

func repository(t testing.TB, name string) oci.Repository {
	t.Helper()
	r, err := oci.NewRepository("registry.test", name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tag(name string) oci.Reference     { return oci.Reference{Tag: name} }
func digest(d oci.Digest) oci.Reference { return oci.Reference{Digest: d} }

// manifest pulls a manifest and checks the outcome.
func (h *house) manifest(repo string, ref oci.Reference, want mirror.Outcome) *mirror.Manifest {
	h.t.Helper()
	m, err := h.Manifest(h.t.Context(), repository(h.t, repo), ref)
	if err != nil {
		h.t.Fatal(err)
	}
	if m.Outcome != want {
		h.t.Errorf("manifest %s: outcome %v, want %v", ref, m.Outcome, want)
	}
	if !m.Descriptor.Digest.Verifies(m.Body) || m.Descriptor.Size != int64(len(m.Body)) {
		h.t.Errorf("manifest %s: descriptor does not fit the body", ref)
	}
	return m
}

// manifestError pulls a manifest that must not come.
func (h *house) manifestError(repo string, ref oci.Reference) error {
	h.t.Helper()
	m, err := h.Manifest(h.t.Context(), repository(h.t, repo), ref)
	if err == nil {
		h.t.Fatalf("manifest %s came, %v from %v", ref, m.Outcome, m.Source)
	}
	return err
}

// blob pulls a blob whole and checks bytes and outcome.
func (h *house) blob(repo string, want upstreamtest.Content, outcome mirror.Outcome) mirror.Source {
	h.t.Helper()
	b, err := h.Blob(h.t.Context(), repository(h.t, repo), want.Digest)
	if err != nil {
		h.t.Fatal(err)
	}
	defer b.Close()
	var got bytes.Buffer
	if _, err := b.WriteRange(&got, 0, -1); err != nil {
		h.t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes) {
		h.t.Errorf("blob %s: wrong bytes", want.Digest)
	}
	if b.Outcome != outcome {
		h.t.Errorf("blob %s: outcome %v, want %v", want.Digest, b.Outcome, outcome)
	}
	return b.Source
}

// pull fetches everything of an image, cold.
func (h *house) pull(repo string, image upstreamtest.Image) {
	h.t.Helper()
	h.manifest(repo, digest(image.Digest), mirror.Miss)
	h.blob(repo, image.Config, mirror.Miss)
	for _, l := range image.Layers {
		h.blob(repo, l, mirror.Miss)
	}
	h.settle()
}

// settle waits until no fill is running, so that what was pulled is stored.
func (h *house) settle() {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if h.gauge("mirror_fills_in_flight") == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatal("fills do not end")
		}
	}
}

// counter sums a metric over the children that have all the given label values.
func (h *house) counter(name string, labels ...string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	children:
		for _, child := range family.GetMetric() {
			values := map[string]bool{}
			for _, l := range child.GetLabel() {
				values[l.GetValue()] = true
			}
			for _, l := range labels {
				if !values[l] {
					continue children
				}
			}
			sum += child.GetCounter().GetValue() + child.GetGauge().GetValue()
		}
	}
	return sum
}

func (h *house) gauge(name string, labels ...string) float64 { return h.counter(name, labels...) }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
