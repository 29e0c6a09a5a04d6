package peer_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/peer"
)

// request is one with all of its fields set.
var request = peer.Request{
	Method: "GET", Target: "/_peer/v1/blob/" + layer.String() + "?ns=docker.io&repo=library/alpine", Range: "bytes=0-8388607",
	Hop: "2", Dead: "node-a, node-b", Slow: "node-c", OnlyIfCached: true,
}

func TestSignedRequestIsAcceptedOnce(t *testing.T) {
	secret := parse(t, "c", passphrase)
	a, b := peer.NewSigner("node-a", secret), peer.NewSigner("node-b", secret)
	header, sent := a.Sign("node-b", request)
	got, err := b.Verify(header, request)
	if err != nil || got != sent || got.Sender != "node-a" || got.Receiver != "node-b" {
		t.Errorf("got %+v, %v, want %+v", got, err, sent)
	}
	if _, err := b.Verify(header, request); !errors.Is(err, peer.ErrReplayed) {
		t.Errorf("the second time: got %v, want %v", err, peer.ErrReplayed)
	}
	again, _ := a.Sign("node-b", request)
	if _, err := b.Verify(again, request); err != nil {
		t.Errorf("an equal request that was signed anew: %v", err)
	}
}

func TestAlteredRequestIsRefused(t *testing.T) {
	secret := parse(t, "c", passphrase)
	a := peer.NewSigner("node-a", secret)
	f := func(what string, change func(*peer.Request)) {
		t.Helper()
		header, _ := a.Sign("node-b", request)
		altered := request
		change(&altered)
		if _, err := peer.NewSigner("node-b", secret).Verify(header, altered); !errors.Is(err, peer.ErrForged) {
			t.Errorf("%s: got %v, want %v", what, err, peer.ErrForged)
		}
	}
	f("method", func(r *peer.Request) { r.Method = "HEAD" })
	f("path", func(r *peer.Request) { r.Target = strings.Replace(r.Target, "/blob/", "/tag/", 1) })
	f("query", func(r *peer.Request) { r.Target += "&x=y" })
	f("range", func(r *peer.Request) { r.Range = "" })
	f("hop", func(r *peer.Request) { r.Hop = "1" })
	f("dead", func(r *peer.Request) { r.Dead = "node-a" })
	f("slow", func(r *peer.Request) { r.Slow = "" })
	f("only if cached", func(r *peer.Request) { r.OnlyIfCached = false })
	f("a byte from one field to the next", func(r *peer.Request) { r.Hop, r.Dead = "2n", "ode-a, node-b" })
}

func TestAlteredAuthorizationIsRefused(t *testing.T) {
	secret := parse(t, "c", passphrase)
	header, _ := peer.NewSigner("node-a", secret).Sign("node-b", request)
	f := func(what, header string, want error) {
		t.Helper()
		if _, err := peer.NewSigner("node-b", secret).Verify(header, request); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	parts := strings.Split(strings.TrimPrefix(header, "Peer "), ":")
	with := func(i int, text string) string {
		changed := append([]string{}, parts...)
		changed[i] = text
		return "Peer " + strings.Join(changed, ":")
	}
	seconds, _ := strconv.Atoi(parts[1])
	f("sender", with(0, "node-c"), peer.ErrForged)
	f("time", with(1, strconv.Itoa(seconds+1)), peer.ErrForged)
	f("nonce", with(2, "AAAAAAAAAAAAAAAA"), peer.ErrForged)
	f("mac", with(3, strings.Repeat("A", 43)), peer.ErrForged)
	f("nothing", "", peer.ErrUnsigned)
	f("another scheme", "Bearer "+header[5:], peer.ErrUnsigned)
	f("a part too few", "Peer "+strings.Join(parts[:3], ":"), peer.ErrUnsigned)
	f("a part too many", header+":", peer.ErrUnsigned)
	f("no name", with(0, ""), peer.ErrUnsigned)
	f("a strange name", with(0, "a b"), peer.ErrUnsigned)
	f("no time", with(1, "soon"), peer.ErrUnsigned)
	f("another spelling of the time", with(1, "+"+parts[1]), peer.ErrUnsigned)
	f("a short nonce", with(2, parts[2][1:]), peer.ErrUnsigned)
	f("a mac with a padding", with(3, parts[3]+"="), peer.ErrUnsigned)
	f("a mac with a line break", with(3, parts[3][:42]+"\n"), peer.ErrUnsigned)
	f("a long header", header+strings.Repeat("A", 300), peer.ErrUnsigned)
}

func TestRequestForAnotherMemberIsRefused(t *testing.T) {
	secret := parse(t, "c", passphrase)
	header, _ := peer.NewSigner("node-a", secret).Sign("node-b", request)
	if _, err := peer.NewSigner("node-c", secret).Verify(header, request); !errors.Is(err, peer.ErrForged) {
		t.Errorf("got %v, want %v", err, peer.ErrForged)
	}
}

func TestKeysOfASigner(t *testing.T) {
	f := func(what string, from, to []string, want error) {
		t.Helper()
		header, _ := peer.NewSigner("a", parse(t, "c", from...)).Sign("b", request)
		if _, err := peer.NewSigner("b", parse(t, "c", to...)).Verify(header, request); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	const other = "another passphrase"
	f("the same", []string{passphrase}, []string{passphrase}, nil)
	f("a new key comes", []string{passphrase}, []string{passphrase, other}, nil)
	f("the new key signs", []string{other, passphrase}, []string{passphrase, other}, nil)
	f("the old key has gone", []string{passphrase}, []string{other}, peer.ErrForged)
	f("only the first key signs", []string{passphrase, other}, []string{other}, peer.ErrForged)
}

func TestTimeOfARequest(t *testing.T) {
	f := func(offset time.Duration, want error) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			secret := parse(t, "c", passphrase)
			a, b := peer.NewSigner("a", secret), peer.NewSigner("b", secret)
			late, _ := a.Sign("b", request)
			time.Sleep(offset)
			if _, err := b.Verify(late, request); !errors.Is(err, want) {
				t.Errorf("%v late: got %v, want %v", offset, err, want)
			}
		})
	}
	f(0, nil)
	f(60*time.Second, nil)
	f(61*time.Second, peer.ErrClock)
	f(24*time.Hour, peer.ErrClock)
}

// TestRequestIsRememberedForAsLongAsItCouldBeAccepted replays a request as late as its time allows, and looks that what
// is over is forgotten.
func TestRequestIsRememberedForAsLongAsItCouldBeAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := parse(t, "c", passphrase)
		a, b := peer.NewSigner("a", secret), peer.NewSignerWithRoom("b", secret, 2)
		accepted := func() error {
			header, _ := a.Sign("b", request)
			_, err := b.Verify(header, request)
			return err
		}
		if err := accepted(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		header, _ := a.Sign("b", request)
		if _, err := b.Verify(header, request); err != nil {
			t.Fatal(err)
		}
		if err := accepted(); !errors.Is(err, peer.ErrCrowded) {
			t.Errorf("the third within two minutes: got %v, want %v", err, peer.ErrCrowded)
		}
		time.Sleep(60 * time.Second)
		if _, err := b.Verify(header, request); !errors.Is(err, peer.ErrReplayed) {
			t.Errorf("after a minute: got %v, want %v", err, peer.ErrReplayed)
		}
		if err := accepted(); err != nil {
			t.Errorf("when the first two minutes are over: %v", err)
		}
	})
}

// answer is one with all of its fields set.
var answer = peer.Answer{Status: 200, Digest: layer.String(), MediaType: "application/json", Size: 512, Age: "7"}

func TestSignedAnswer(t *testing.T) {
	secret := parse(t, "c", passphrase)
	a, b := peer.NewSigner("a", secret), peer.NewSigner("b", secret)
	header, sent := a.Sign("b", request)
	received, err := b.Verify(header, request)
	if err != nil {
		t.Fatal(err)
	}
	signature := b.SignAnswer(received, answer)
	if err := a.VerifyAnswer(sent, answer, signature); err != nil {
		t.Error(err)
	}
	f := func(what string, p peer.Proof, signature string, change func(*peer.Answer)) {
		t.Helper()
		altered := answer
		change(&altered)
		if err := a.VerifyAnswer(p, altered, signature); !errors.Is(err, peer.ErrForged) {
			t.Errorf("%s: got %v, want %v", what, err, peer.ErrForged)
		}
	}
	f("status", sent, signature, func(a *peer.Answer) { a.Status = 404 })
	f("digest", sent, signature, func(a *peer.Answer) { a.Digest = strings.Replace(a.Digest, "a", "b", 1) })
	f("media type", sent, signature, func(a *peer.Answer) { a.MediaType = "" })
	f("size", sent, signature, func(a *peer.Answer) { a.Size++ })
	f("age", sent, signature, func(a *peer.Answer) { a.Age = "0" })
	same := func(*peer.Answer) {}
	_, next := a.Sign("b", request)
	f("the answer to another request", next, signature, same)
	f("no signature", sent, "", same)
	f("the signature of the request", sent, header[strings.LastIndex(header, ":")+1:], same)
	f("a stranger", sent, peer.NewSigner("b", parse(t, "c", "another passphrase")).SignAnswer(received, answer), same)
}

func FuzzVerify(f *testing.F) {
	secret := parse(f, "c", passphrase)
	header, _ := peer.NewSigner("node-a", secret).Sign("node-z", request)
	f.Add(header)
	f.Add("")
	f.Add("Peer a:1:AAAAAAAAAAAAAAAA:" + strings.Repeat("A", 43))
	f.Add("Peer :::")
	f.Add("Peer a:-9223372036854775808:AAAAAAAAAAAAAAAA:" + strings.Repeat("A", 42) + "\n")
	b := peer.NewSigner("node-b", secret)
	f.Fuzz(func(t *testing.T, header string) {
		if p, err := b.Verify(header, request); err == nil || p != (peer.Proof{}) {
			t.Errorf("%q is accepted: %+v", header, p)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	a := peer.NewSigner("node-a", parse(b, "c", passphrase))
	b.ReportAllocs()
	for b.Loop() {
		a.Sign("node-b", request)
	}
}

func BenchmarkVerify(b *testing.B) {
	secret := parse(b, "c", passphrase)
	a := peer.NewSigner("node-a", secret)
	receiver := peer.NewSignerWithRoom("node-b", secret, 1<<30)
	b.ReportAllocs()
	for b.Loop() {
		header, _ := a.Sign("node-b", request)
		if _, err := receiver.Verify(header, request); err != nil {
			b.Fatal(err)
		}
	}
}
