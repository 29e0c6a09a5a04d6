package peer_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"mirror/internal/peer"
)

// key is 32 bytes, and passphrase what nobody would use.
var (
	key        = []byte("0123456789abcdefghijklmnopqrstuv")
	passphrase = "correct horse battery staple"
)

// parse reads a secret that must be right.
func parse(t testing.TB, cluster string, lines ...string) peer.Secret {
	t.Helper()
	s, err := peer.ParseSecret([]byte(strings.Join(lines, "\n")), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// understands tells whether what is signed under one secret is accepted under another.
func understands(from, to peer.Secret) bool {
	r := peer.Request{Method: "GET", Target: "/"}
	header, _ := peer.NewSigner("a", from).Sign("b", r)
	_, err := peer.NewSigner("b", to).Verify(header, r)
	return err == nil
}

func TestFormsOfAKey(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		if got := understands(parse(t, "c", a), parse(t, "c", b)); got != want {
			t.Errorf("%q and %q: got %v, want %v", a, b, got, want)
		}
	}
	f(hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), true)
	f(hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), true)
	f(hex.EncodeToString(key[:16]), base64.URLEncoding.EncodeToString(key[:16]), true)
	f(hex.EncodeToString(key[:24]), base64.StdEncoding.EncodeToString(key[:24]), true)
	f(passphrase, "  "+passphrase+"\r\n\n# a comment", true)
	f(passphrase, passphrase+".", false)
	f(hex.EncodeToString(key), hex.EncodeToString(key[:24]), false)
}

func TestSecretIsOfOneCluster(t *testing.T) {
	if understands(parse(t, "one", passphrase), parse(t, "other", passphrase)) {
		t.Error("a cluster accepts what another one with the same secret file has signed")
	}
}

func TestSecretThatIsRefused(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := peer.ParseSecret([]byte(text), "c")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	f("", "no key")
	f("\n# only a comment\n\n", "no key")
	f("fifteen letters", "line 1: a passphrase of 15 characters is too short")
	f(passphrase+"\n\nshort", "line 3")
	f(passphrase+"\n"+passphrase, "line 2: the key is there already")
	f(hex.EncodeToString(key)+"\n"+base64.StdEncoding.EncodeToString(key), "line 2: the key is there already")
	f(string([]byte{0xff, 0xfe, 0x80})+passphrase, "not text")
	f(strings.Repeat("x", 1<<17), "longer than")
	var many strings.Builder
	for i := range 17 {
		fmt.Fprintf(&many, "%s %d\n", passphrase, i)
	}
	f(many.String(), "17 keys, want at most 16")
}

// TestSecretStaysSecret prints a secret, and what holds one, in every way that a careless line could.
func TestSecretStaysSecret(t *testing.T) {
	s := parse(t, "c", hex.EncodeToString(key))
	holder := struct{ hidden peer.Secret }{s}
	var log lines
	slog.New(slog.NewTextHandler(&log, nil)).Info("secret", "secret", s, "holder", holder)
	printed := log.String() + fmt.Sprintf("%v %+v %#v %s %v %+v %#v", s, s, s, s, holder, holder, holder)
	for _, part := range []string{string(key), hex.EncodeToString(key), fmt.Sprintf("%d", key)[1:20]} {
		if strings.Contains(printed, part) {
			t.Errorf("%q shows the key", printed)
		}
	}
}

func TestLoadSecretNamesTheFile(t *testing.T) {
	if _, err := peer.LoadSecret("/nowhere/secret", "c"); err == nil || !strings.Contains(err.Error(), "/nowhere/secret") || !strings.Contains(err.Error(), "peers.secret_file") {
		t.Errorf("got %v, want the name of the file and of the key", err)
	}
	file := secretFile(t, "short")
	if _, err := peer.LoadSecret(file, "c"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want the name of the file", err)
	}
}

func TestSecretThatEverybodyCanReadIsWarnedAbout(t *testing.T) {
	file := secretFile(t, passphrase)
	if n := start(t, "a", withSecret(file)); n.log.count("chmod o-r") != 0 {
		t.Error("a file that is private is warned about")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if n := start(t, "b", withSecret(file)); n.log.count("chmod o-r") != 1 {
		t.Error("a file that everybody can read is not warned about")
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add([]byte(passphrase))
	f.Add([]byte("# comment\n" + hex.EncodeToString(key) + "\r\n" + base64.StdEncoding.EncodeToString(key[:16])))
	f.Add([]byte("\n\n\x00\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := peer.ParseSecret(text, "c")
		if err == nil && !understands(s, s) {
			t.Error("a secret does not understand itself")
		}
		// A word of the text in an error would end up in a log. Shorter ones are words of ours too.
		for word := range strings.FieldsSeq(string(text)) {
			if err != nil && len(word) > 16 && strings.Contains(err.Error(), word) {
				t.Errorf("%q shows a part of the file", err)
			}
		}
	})
}
