package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"mirror/internal/oci"
)

var testTag = TagName{Registry: "registry.test", Repository: "app", Tag: "1"}

// documents lets a member answer requests for manifests and tags.
func (m *scripted) documents(answer func(w http.ResponseWriter, p Proof)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.special = func(w http.ResponseWriter, r *http.Request) { answer(w, m.proofOf(r)) }
}

// manifest answers with bytes.
func manifest(body []byte) func(http.ResponseWriter, Proof) {
	return func(w http.ResponseWriter, _ Proof) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write(body)
	}
}

// status answers with a status alone.
func status(code int) func(http.ResponseWriter, Proof) {
	return func(w http.ResponseWriter, _ Proof) { w.WriteHeader(code) }
}

// tag answers what a tag names, that long ago. change may alter the answer after it was signed.
func (m *scripted) tag(d oci.Digest, age string, change func(h http.Header)) func(http.ResponseWriter, Proof) {
	return func(w http.ResponseWriter, p Proof) {
		a := Answer{Status: http.StatusOK, Digest: d.String(), MediaType: "application/json", Size: 5, Age: age}
		h := w.Header()
		h.Set("Docker-Content-Digest", a.Digest)
		h.Set("Content-Type", a.MediaType)
		h.Set(HeaderSize, "5")
		h.Set("Age", age)
		h.Set(HeaderSignature, m.signer.SignAnswer(p, a))
		if change != nil {
			change(h)
		}
	}
}

// ranks lists the members in their order for a key.
func (f *fleet) ranks(key Key) (names []string) {
	var room [maxTop]*Member
	for _, m := range f.View().Top(key, room[:]) {
		names = append(names, m.Name)
	}
	return names
}

// tagOwnedBy finds a tag that members rank for in this order.
func (f *fleet) tagOwnedBy(order ...string) TagName {
	for i := 0; ; i++ {
		name := testTag
		name.Tag = fmt.Sprint(i)
		if slices.Equal(f.ranks(TagKey(name.Registry, name.Repository, name.Tag)), order) {
			return name
		}
	}
}

func TestManifestByItsOwner(t *testing.T) {
	body := []byte(`{"schemaVersion":2}`)
	f := func(what string, script func(a, b *scripted), want error, peer string) {
		t.Helper()
		inFleet(t, func(f *fleet) {
			a, b := f.members["a"], f.members["b"]
			b.documents(manifest(body))
			script(a, b)
			got, err := f.exchange.Manifest(f.t.Context(), f.name, "")
			switch {
			case want != nil && !errors.Is(err, want), want == nil && err != nil:
				t.Errorf("%s: got %v, want %v", what, err, want)
			case want == nil && (got.Peer != peer || !bytes.Equal(got.Body, body) || got.MediaType == ""):
				t.Errorf("%s: got %+v, want it from %s", what, got, peer)
			}
		}, "a", "b", "self")
	}
	f("from the owner", func(a, _ *scripted) { a.documents(manifest(body)) }, nil, "a")
	f("the owner is dead", func(a, _ *scripted) { a.set(&a.refuses, true) }, nil, "b")
	f("the owner is silent", func(a, _ *scripted) { a.set(&a.hangs, true) }, nil, "b")
	f("the owner serves nothing", func(a, _ *scripted) { a.documents(status(StatusUnable)) }, nil, "b")
	f("the owner says nonsense", func(a, _ *scripted) { a.documents(status(http.StatusTeapot)) }, nil, "b")
	f("one cannot reach the registry", func(a, _ *scripted) { a.documents(status(StatusFailed)) }, nil, "b")
	f("two cannot", func(a, b *scripted) { a.documents(status(StatusFailed)); b.documents(status(StatusFailed)) }, ErrOwn, "")
	f("nobody can be asked", func(a, b *scripted) { a.set(&a.refuses, true); b.set(&b.refuses, true) }, ErrOwn, "")
	f("it is too long", func(a, _ *scripted) { a.documents(manifest(make([]byte, documentLimit+1))) }, nil, "b")
	f("it breaks off", func(a, _ *scripted) {
		a.documents(func(w http.ResponseWriter, _ Proof) { w.Header().Set("Content-Length", "9"); _, _ = w.Write(body[:1]) })
	}, nil, "b")
	inFleet(t, func(f *fleet) {
		if _, err := f.exchange.Manifest(f.t.Context(), f.name, ""); !errors.Is(err, ErrOwn) {
			t.Errorf("got %v of this node's own, want ErrOwn", err)
		}
	}, "self", "a")
}

func TestRefusedManifest(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].documents(status(http.StatusNotFound))
		_, err := f.exchange.Manifest(f.t.Context(), f.name, "")
		if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Status != http.StatusNotFound || refused.Peer != "a" {
			t.Errorf("got %v", err)
		}
	}, "a", "b", "self")
}

// An owner that is at work may take as long as the client waits.
func TestManifestTakesTime(t *testing.T) {
	inFleet(t, func(f *fleet) {
		f.members["a"].documents(func(w http.ResponseWriter, _ Proof) { time.Sleep(20 * time.Second); _, _ = w.Write([]byte("{}")) })
		if _, err := f.exchange.Manifest(f.t.Context(), f.name, ""); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		if _, err := f.exchange.Manifest(ctx, f.name, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the client's patience", err)
		}
	}, "a", "b", "self")
}

func TestHeldManifest(t *testing.T) {
	inFleet(t, func(f *fleet) {
		body := []byte("{}")
		c := f.name
		c.Digest = oci.DigestOf(oci.SHA256, body)
		for name, answer := range map[string]func(http.ResponseWriter, Proof){
			"a": status(StatusNotHeld), "b": manifest([]byte("wrong")), "c": manifest(body), "d": status(StatusUnable),
		} {
			f.members[name].documents(answer)
		}
		f.members["e"].set(&f.members["e"].hangs, true)
		began := time.Now()
		if got := f.exchange.HeldManifest(f.t.Context(), c); got == nil || got.Peer != "c" || !bytes.Equal(got.Body, body) {
			t.Errorf("got %+v", got)
		}
		if took := time.Since(began); took > rescueTime {
			t.Errorf("took %v", took)
		}
		f.members["c"].documents(status(StatusNotHeld))
		if got := f.exchange.HeldManifest(f.t.Context(), c); got != nil {
			t.Errorf("got %+v, which nobody has", got)
		}
	}, "self", "a", "b", "c", "d", "e")
}

func TestTagByItsOwner(t *testing.T) {
	inFleet(t, func(f *fleet) {
		name := f.tagOwnedBy("a", "b", "self")
		f.members["a"].documents(f.members["a"].tag(testDigest, "17", nil))
		got, err := f.exchange.Tag(f.t.Context(), name)
		want := Tag{Descriptor: oci.Descriptor{MediaType: "application/json", Digest: testDigest, Size: 5}, Age: 17 * time.Second, Peer: "a"}
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if _, err := f.exchange.Tag(f.t.Context(), f.tagOwnedBy("self", "a", "b")); !errors.Is(err, ErrOwn) {
			t.Errorf("got %v of this node's own, want ErrOwn", err)
		}
	}, "a", "b", "self")
}

// What a tag names is believed of a member that knows the secret, in answer to the very request, and of nobody else.
func TestLiesAboutTags(t *testing.T) {
	other := oci.DigestOf(oci.SHA256, []byte("evil"))
	secret, err := noSecret("another cluster")
	if err != nil {
		t.Fatal(err)
	}
	stranger := &scripted{name: "a", signer: NewSigner("a", secret)}
	set := func(key, value string) func(*scripted) func(http.ResponseWriter, Proof) {
		return func(m *scripted) func(http.ResponseWriter, Proof) {
			return m.tag(testDigest, "17", func(h http.Header) { h.Set(key, value) })
		}
	}
	for what, lie := range map[string]func(*scripted) func(http.ResponseWriter, Proof){
		"unsigned":                set(HeaderSignature, ""),
		"signed with something":   set(HeaderSignature, "AAAA"),
		"another digest":          set("Docker-Content-Digest", other.String()),
		"no digest":               set("Docker-Content-Digest", ""),
		"another type":            set("Content-Type", "text/plain"),
		"another size":            set(HeaderSize, "6"),
		"no size":                 set(HeaderSize, ""),
		"younger":                 set("Age", "0"),
		"no age":                  set("Age", ""),
		"a signed age of nothing": func(m *scripted) func(http.ResponseWriter, Proof) { return m.tag(testDigest, "", nil) },
		"a negative age":          func(m *scripted) func(http.ResponseWriter, Proof) { return m.tag(testDigest, "-1", nil) },
		"an age without end":      func(m *scripted) func(http.ResponseWriter, Proof) { return m.tag(testDigest, "99999999999", nil) },
		"signed by a stranger":    func(*scripted) func(http.ResponseWriter, Proof) { return stranger.tag(testDigest, "17", nil) },
		"of an earlier request": func(m *scripted) func(http.ResponseWriter, Proof) {
			var first Proof
			return func(w http.ResponseWriter, p Proof) {
				if first == (Proof{}) {
					first = p
					w.WriteHeader(http.StatusTeapot)
					return
				}
				m.tag(testDigest, "17", nil)(w, first)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			inFleet(t, func(f *fleet) {
				name := f.tagOwnedBy("a", "self", "b")
				f.members["a"].documents(lie(f.members["a"]))
				for range 2 {
					if got, err := f.exchange.Tag(f.t.Context(), name); !errors.Is(err, ErrOwn) {
						t.Errorf("got %+v, %v, want ErrOwn", got, err)
					}
				}
				f.members["b"].documents(status(StatusNotHeld))
				if got, ok := f.exchange.HeldTag(f.t.Context(), name); ok {
					t.Errorf("everybody was asked: got %+v", got)
				}
			}, "a", "self", "b")
		})
	}
}

func TestHeldTagIsTheYoungest(t *testing.T) {
	inFleet(t, func(f *fleet) {
		old, young := oci.DigestOf(oci.SHA256, []byte("old")), oci.DigestOf(oci.SHA256, []byte("young"))
		for name, answer := range map[string]func(http.ResponseWriter, Proof){
			"a": f.members["a"].tag(old, "100", nil), "b": f.members["b"].tag(young, "10", nil), "c": f.members["c"].tag(old, "11", nil),
			"d": status(StatusNotHeld),
		} {
			f.members[name].documents(answer)
		}
		f.members["e"].set(&f.members["e"].hangs, true)
		if got, ok := f.exchange.HeldTag(f.t.Context(), testTag); !ok || got.Descriptor.Digest != young || got.Age != 10*time.Second || got.Peer != "b" {
			t.Errorf("got %+v, %v", got, ok)
		}
	}, "self", "a", "b", "c", "d", "e")
}
