package mirror

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"mirror/internal/oci"
)

// named returns a digest for a name of one letter.
func named(letter string) oci.Digest { return oci.DigestOf(oci.SHA256, []byte(letter)) }

// TestNext: contents are letters, the configuration is c; capitals are long.
func TestNext(t *testing.T) {
	f := func(layers, asked, held, want string) {
		t.Helper()
		m := oci.Manifest{MediaType: oci.MediaTypeImageManifest, Config: oci.Descriptor{Digest: named("c"), Size: 10}}
		m.Children = []oci.Descriptor{m.Config}
		for _, letter := range strings.Split(layers, "") {
			size := int64(10)
			if letter == strings.ToUpper(letter) {
				size = smallAhead + 1
			}
			m.Children = append(m.Children, oci.Descriptor{Digest: named(letter), Size: size})
		}
		wanted, ok := next(m, named(asked), func(d oci.Digest) bool {
			return slices.ContainsFunc(strings.Split(held, ""), func(letter string) bool { return named(letter) == d })
		})
		got := ""
		for _, d := range wanted {
			for _, letter := range strings.Split("c"+layers, "") {
				if named(letter) == d.Digest && !strings.Contains(got, letter) {
					got += letter
				}
			}
		}
		if ok != (want != "?") || got != strings.Trim(want, "?") {
			t.Errorf("%s, %s asked for, %s here: got %q (%v), want %q", layers, asked, held, got, ok, want)
		}
	}
	f("ABD", "A", "", "cBD")
	f("ABD", "A", "c", "BD")
	f("ABD", "B", "", "cD")
	f("ABdEf", "A", "", "cdfBE")
	f("ABBAD", "A", "", "cBD")
	f("ABD", "D", "", "c")
	f("ABDE", "A", "BD", "cE")
	f("ABDE", "A", "BDE", "")
	f("ABD", "X", "", "?")
	f("ABD", "c", "", "?")
}

// A manifest that names a layer longer than any is believed in the rest.
func TestNextOfAbsurdLength(t *testing.T) {
	m := oci.Manifest{MediaType: oci.MediaTypeImageManifest, Children: []oci.Descriptor{
		{Digest: named("a"), Size: 5}, {Digest: named("b"), Size: math.MaxInt64}, {Digest: named("d"), Size: 5},
	}}
	wanted, ok := next(m, named("a"), func(oci.Digest) bool { return false })
	if !ok || len(wanted) != 1 || wanted[0].Digest != named("d") {
		t.Errorf("got %v, want the last layer", wanted)
	}
}

func TestNextOfAnIndex(t *testing.T) {
	m := oci.Manifest{MediaType: oci.MediaTypeImageIndex, Children: []oci.Descriptor{{Digest: named("a")}, {Digest: named("b")}}}
	if wanted, ok := next(m, named("a"), func(oci.Digest) bool { return false }); ok || wanted != nil {
		t.Errorf("an index announces blobs: %v", wanted)
	}
}

func TestAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h habits
		repo := oci.Repository{Registry: "registry.test", Name: "app"}
		expect := func(want ...oci.Digest) {
			t.Helper()
			if got := h.announced(repo); !slices.Equal(got, want) {
				t.Errorf("announced are %v, want %v", got, want)
			}
		}
		expect()
		h.gotManifest(repo, named("a"))
		h.gotManifest(repo, named("b"))
		h.gotManifest(repo, named("a"))
		expect(named("b"), named("a"))
		if !h.use(repo, named("a")) || h.use(repo, named("a")) {
			t.Error("an announcement is used once")
		}
		h.gotManifest(repo, named("a"))
		expect(named("b"))
		time.Sleep(announceFor)
		expect()
		h.gotManifest(repo, named("a"))
		expect(named("a"))
		for i := range 2 * maxAnnounced {
			h.gotManifest(repo, named(fmt.Sprint(i)))
		}
		if got := h.announced(repo); len(got) != maxAnnounced || got[0] != named(fmt.Sprint(2*maxAnnounced-1)) {
			t.Errorf("%d announcements are kept", len(got))
		}
	})
}

func TestPlatformsAreLearned(t *testing.T) {
	var h habits
	repo, other := oci.Repository{Registry: "registry.test", Name: "app"}, oci.Repository{Registry: "registry.test", Name: "other"}
	platform := func(arch string) oci.Platform { return oci.Platform{OS: "linux", Architecture: arch} }
	index := func(a, b string) map[oci.Digest]oci.Platform {
		return map[oci.Digest]oci.Platform{named(a): platform("amd64"), named(b): platform("arm64")}
	}
	if likely := h.learn(repo, index("a", "b")); likely != nil {
		t.Errorf("before anything is known: %v", likely)
	}
	h.gotManifest(repo, named("b"))
	if likely := h.learn(repo, index("d", "e")); !slices.Equal(likely, []oci.Digest{named("e")}) {
		t.Errorf("got %v, want the manifest for arm64", likely)
	}
	if likely := h.learn(other, index("d", "e")); likely != nil {
		t.Errorf("of another repository: %v", likely)
	}
	many := map[oci.Digest]oci.Platform{}
	for i := range 2 * maxChildren {
		many[named(fmt.Sprint(i))] = platform(fmt.Sprint(i))
	}
	h.learn(repo, many)
	for i := range 2 * maxChildren {
		h.gotManifest(repo, named(fmt.Sprint(i)))
	}
	if k := h.known[repo]; len(k.children) > maxChildren || len(k.asked) > maxAsked {
		t.Errorf("%d children and %d platforms are remembered", len(k.children), len(k.asked))
	}
}

func TestHabitsAreBounded(t *testing.T) {
	var h habits
	for i := range maxHabits + 10 {
		h.gotManifest(oci.Repository{Registry: "registry.test", Name: fmt.Sprint(i)}, named("a"))
	}
	if len(h.known) > maxHabits {
		t.Errorf("%d repositories are remembered", len(h.known))
	}
}

func TestUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnread(newMetrics(prometheus.NewRegistry()))
		if !u.expect(named("a")) || u.expect(named("a")) {
			t.Error("the same is not fetched ahead twice at a time")
		}
		u.asked(named("a")) // before the upstream has answered
		u.came(named("a"), "registry.test", 5)
		if !u.expect(named("a")) {
			t.Error("what was asked for may be fetched ahead again")
		}
		u.came(named("a"), "registry.test", 5)
		if u.expect(named("a")) {
			t.Error("what nobody has asked for is fetched ahead again")
		}
		time.Sleep(unreadFor)
		u.asked(named("a"))
		if got := testutil.ToFloat64(u.metrics.prefetchUsed); got != 5 {
			t.Errorf("%v bytes were used, want the five that were asked for in time", got)
		}
		if !u.expect(named("a")) {
			t.Error("it is never tried again")
		}
		u.forget(named("a"))
		for i := range maxUnread {
			u.expect(named(fmt.Sprint(i)))
		}
		if u.expect(named("b")) {
			t.Error("it grows without bound")
		}
		time.Sleep(unreadFor + time.Second)
		if !u.expect(named("b")) || len(u.watch) != 1 {
			t.Errorf("%d are watched, want the new one", len(u.watch))
		}
	})
}

func TestLoadAdmits(t *testing.T) {
	f := func(l load, n int64, want bool) {
		t.Helper()
		if got := l.admits(n, load{fills: 2, bytes: 100}); got != want {
			t.Errorf("%+v and %d more: %v", l, n, got)
		}
	}
	f(load{}, 100, true)
	f(load{}, 1000, true)
	f(load{1, 50}, 50, true)
	f(load{1, 50}, 51, false)
	f(load{2, 0}, 1, false)
}
