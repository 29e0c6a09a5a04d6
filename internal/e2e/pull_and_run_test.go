//go:build e2e

package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// puller is a client that people pull images with. After a failure of any of its steps the test is over.
type puller interface {
	// pull takes an image into the client's storage.
	pull(t *testing.T, ref string)
	// run runs a command in the image that was pulled last and returns what it prints.
	run(t *testing.T, argv ...string) string
	// wipe empties the client's storage, so that the next pull starts from nothing.
	wipe(t *testing.T)
}

func TestClientsPullAndRunImages(t *testing.T) {
	clients := []struct {
		name  string
		start func(t *testing.T, mirrorURL string) puller
	}{
		{"docker", startDocker}, {"containerd", startContainerd}, {"podman", newPodman}, {"skopeo", newSkopeo},
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			registry, debian := must(t, shared.registry), must(t, shared.debian)
			g := newGate(t, registry)
			m := startMirror(t, dockerHub(g))
			pullStory(t, g, m, debian, c.start(t, m.url))
		})
	}
}

// pullStory is what a user sees of a mirror in its first week: the first pull, the next ones, and the day on which the
// registry is down.
func pullStory(t *testing.T, g *gate, m *mirror, debian *image, client puller) {
	t.Helper()
	byTag := "docker.io/" + debian.repository + ":" + debian.tag
	byDigest := "docker.io/" + debian.repository + "@" + debian.digest

	client.pull(t, byTag)
	expectDebian(t, client)
	if got := g.blobBytes(""); got < debian.size() {
		t.Fatalf("%d blob bytes came from the registry, the image has %d: the mirror was not used", got, debian.size())
	}
	client.wipe(t)

	warm(t, g, m, debian, func() { client.pull(t, byTag) })
	expectDebian(t, client)
	client.wipe(t)

	warm(t, g, m, debian, func() { client.pull(t, byDigest) })
	expectDebian(t, client)
	client.wipe(t)

	g.stop()
	expectStale(t, m, debian)
	warm(t, g, m, debian, func() { client.pull(t, byTag) })
	expectDebian(t, client)
}

func expectDebian(t *testing.T, client puller) {
	t.Helper()
	if out := client.run(t, "cat", "/etc/os-release"); !strings.Contains(out, "bookworm") {
		t.Fatalf("the image printed %q, want Debian's os-release", out)
	}
}

// warm pulls an image that the mirror holds: all layers go to the client, and no blob byte comes from the registry.
func warm(t *testing.T, g *gate, m *mirror, i *image, pull func()) {
	t.Helper()
	blobs, served := g.blobBytes(""), m.metric(t, "mirror_served_bytes_total")
	received := m.metric(t, "mirror_upstream_bytes_total")
	pull()
	if n := g.blobBytes("") - blobs; n != 0 {
		t.Errorf("a pull of a cached image took %d blob bytes from the registry, want 0", n)
	}
	if n := m.metric(t, "mirror_upstream_bytes_total") - received; n != 0 {
		t.Errorf("mirror_upstream_bytes_total grew by %.0f during a pull of a cached image, want 0", n)
	}
	if n := m.metric(t, "mirror_served_bytes_total") - served; n < float64(i.size()) {
		t.Errorf("mirror_served_bytes_total grew by %.0f, the layers have %d: the client did not pull again", n, i.size())
	}
}

// expectStale asks for the tag until its freshness is over, then holds the answer to what the contract says of a tag
// that cannot be checked, and to a time that no user notices.
func expectStale(t *testing.T, m *mirror, i *image) {
	t.Helper()
	client, url := newClient(t), m.url+i.manifestPath(i.tag)
	var a answer
	eventually(t, "the tag is stale", 30*time.Second, func() bool {
		a = get(t, client, url, "Accept", manifestTypes)
		return a.header.Get("X-Cache") == "STALE"
	})
	if a.status != http.StatusOK || a.header.Get("Docker-Content-Digest") != i.digest {
		t.Fatalf("stale tag: status %d, digest %s, want 200 and %s", a.status, a.header.Get("Docker-Content-Digest"), i.digest)
	}
	if w := a.header.Get("Warning"); !strings.HasPrefix(w, "299 - ") {
		t.Errorf("stale tag has Warning %q, want one that starts with 299", w)
	}
	var times []time.Duration
	for range 10 {
		begin := time.Now()
		get(t, client, url, "Accept", manifestTypes)
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	t.Logf("manifest of a stale tag: fastest %v, median %v", times[0], times[len(times)/2])
	if times[0] > 100*time.Millisecond {
		t.Errorf("the fastest of ten answers for a stale tag took %v, want under 100 ms", times[0])
	}
}
