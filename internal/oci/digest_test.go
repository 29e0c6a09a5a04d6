package oci_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"mirror/internal/oci"
)

var (
	// hello256 and hello512 are the digests of "hello", as sha256sum and sha512sum print them.
	hello256 = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	hello512 = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7" +
		"2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043"
	// empty256 is the digest of no bytes at all.
	empty256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// wantCode fails the test unless err is an *oci.Error with the code and a message that may go to a stranger.
func wantCode(t *testing.T, err error, want oci.Code) {
	t.Helper()
	var e *oci.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Fatalf("error is %v, want code %s", err, want)
	}
	if len(e.Message) > 2048 || strings.ContainsAny(e.Message, "\r\n\x00") {
		t.Fatalf("message of %d bytes is not fit for an answer: %q", len(e.Message), e.Message)
	}
}

func TestParseDigest(t *testing.T) {
	f := func(text string, algorithm oci.Algorithm) {
		t.Helper()
		d, err := oci.ParseDigest(text)
		if err != nil {
			t.Fatalf("ParseDigest(%q): %v", text, err)
		}
		if d.String() != text || d.Algorithm() != algorithm || d.IsZero() {
			t.Fatalf("ParseDigest(%q) is %s of %s", text, d, d.Algorithm())
		}
		if _, encoded, _ := strings.Cut(text, ":"); d.Encoded() != encoded {
			t.Fatalf("encoded part is %q, want %q", d.Encoded(), encoded)
		}
		if fromBytes, err := oci.ParseDigest([]byte(text)); err != nil || fromBytes != d {
			t.Fatalf("from bytes: %v, %v", fromBytes, err)
		}
	}
	f(hello256, oci.SHA256)
	f(hello512, oci.SHA512)
	f("sha256:"+strings.Repeat("0", 64), oci.SHA256)
}

func TestParseDigestRefuses(t *testing.T) {
	f := func(text, mention string) {
		t.Helper()
		d, err := oci.ParseDigest(text)
		wantCode(t, err, oci.DigestInvalid)
		if !d.IsZero() {
			t.Fatalf("a refused digest is not zero: %v", d)
		}
		if !strings.Contains(err.Error(), mention) {
			t.Fatalf("error for %q is %q, want it to mention %q", text, err, mention)
		}
	}
	f("", "no algorithm")
	f("latest", "no algorithm")
	f(hello256[7:], "no algorithm")
	f(":", "not supported")
	f("md5:d41d8cd98f00b204e9800998ecf8427e", "not supported")
	f("sha384:"+strings.Repeat("a", 96), "not supported")
	f("SHA256:"+strings.Repeat("a", 64), "not supported")
	f("debian@"+hello256, "not supported")
	f("sha256:", "has 64")
	f(hello256[:70], "63 characters")
	f(hello256+"0", "65 characters")
	f("sha512:"+hello256[7:], "has 128")
	f(strings.ToUpper(hello256[:6])+hello256[6:], "not supported")
	f("sha256:"+strings.ToUpper(hello256[7:]), "lower-case")
	f("sha256:g"+hello256[8:], "lower-case")
	f("sha256: "+hello256[8:], "lower-case")
	f("sha256:"+strings.Repeat("é", 32), "lower-case")
	f("sha256:"+strings.Repeat("x", 1<<20), "1048576 characters")
	f("\r\n\x00:evil", "not supported")
}

func TestDigestOf(t *testing.T) {
	body := []byte("hello")
	for _, want := range []string{hello256, hello512} {
		d := oci.MustParseDigest(want)
		if got := oci.DigestOf(d.Algorithm(), body); got != d {
			t.Errorf("DigestOf is %s, want %s", got, want)
		}
		if !d.Verifies(body) || d.Verifies([]byte("hellp")) || d.Verifies(nil) {
			t.Errorf("%s verifies the wrong bodies", want)
		}
		h := d.Hash()
		h.Write(body)
		if !d.Matches(h) {
			t.Errorf("%s does not match a hash of its content", want)
		}
		if h.Write([]byte("!")); d.Matches(h) {
			t.Errorf("%s matches a hash of other content", want)
		}
	}
	if oci.MustParseDigest(hello256).Matches(oci.SHA512.New()) {
		t.Error("a digest matches a hash of another algorithm")
	}
}

func TestZeroDigest(t *testing.T) {
	var zero oci.Digest
	if !zero.IsZero() || zero.String() != "" || zero.Encoded() != "" || len(zero.AppendTo(nil)) != 0 {
		t.Errorf("the zero digest has a text form: %q", zero)
	}
	if zero.Algorithm().String() != "none" {
		t.Errorf("the zero digest is of %s", zero.Algorithm())
	}
	if zero.Verifies(nil) || zero.Verifies([]byte("hello")) || zero.Matches(zero.Hash()) {
		t.Error("the zero digest verifies something")
	}
	if got := oci.DigestOf(0, []byte("hello")); got != zero {
		t.Errorf("a digest of no algorithm is %v", got)
	}
	if _, err := oci.DigestFromBinary(zero.Binary()); err == nil {
		t.Error("the zero digest can be read from a record")
	}
}

func TestDigestText(t *testing.T) {
	d := oci.MustParseDigest(hello512)
	text, err := d.MarshalText()
	if err != nil || string(text) != hello512 {
		t.Fatalf("MarshalText is %q, %v", text, err)
	}
	var back oci.Digest
	if err := back.UnmarshalText(text); err != nil || back != d {
		t.Fatalf("UnmarshalText is %v, %v", back, err)
	}
	wantCode(t, back.UnmarshalText([]byte("sha256:short")), oci.DigestInvalid)
	if back != d {
		t.Error("a refused text changed the digest")
	}
}

func TestDigestBinary(t *testing.T) {
	for text, size := range map[string]int{hello256: 33, hello512: 65} {
		d := oci.MustParseDigest(text)
		b := d.Binary()
		if len(b) != size {
			t.Errorf("%s takes %d bytes, want %d", d.Algorithm(), len(b), size)
		}
		if back, err := oci.DigestFromBinary(b); err != nil || back != d {
			t.Errorf("DigestFromBinary is %v, %v", back, err)
		}
		for _, damaged := range [][]byte{nil, b[:1], b[:len(b)-1], append(bytes.Clone(b), 0), append([]byte{9}, b[1:]...)} {
			if _, err := oci.DigestFromBinary(damaged); err == nil {
				t.Errorf("a record of %d bytes with algorithm %v was accepted", len(damaged), damaged)
			}
		}
	}
}

func TestDigestFallbackTag(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		got := oci.MustParseDigest(text).FallbackTag()
		if got != want || !oci.ValidTag(got) {
			t.Errorf("fallback tag of %s is %q, want %q", text, got, want)
		}
	}
	f(hello256, "sha256-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
	f(hello512, "sha512-9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7")
}

func TestDigestSum64(t *testing.T) {
	if got := oci.MustParseDigest(hello256).Sum64(); got != 0x2cf24dba5fb0a30e {
		t.Errorf("Sum64 is %x", got)
	}
}

func TestMustParseDigestPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a bad constant did not panic")
		}
	}()
	oci.MustParseDigest("sha256:bad")
}

func TestParseDigestAllocations(t *testing.T) {
	text, room := []byte(hello512), make([]byte, 0, 160)
	allocations := testing.AllocsPerRun(100, func() {
		d, err := oci.ParseDigest(text)
		if err != nil || len(d.AppendTo(room)) != len(text) {
			panic("the digest does not survive")
		}
	})
	if allocations != 0 {
		t.Errorf("parsing and appending a digest allocates %v times", allocations)
	}
}

func FuzzParseDigest(f *testing.F) {
	for _, seed := range []string{"", ":", hello256, hello512, empty256, "sha256:", "md5:00", "sha256:" + strings.Repeat("A", 64), "a@" + hello256} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := oci.ParseDigest(text)
		if err != nil {
			wantCode(t, err, oci.DigestInvalid)
			return
		}
		if d.IsZero() || d.String() != text {
			t.Fatalf("ParseDigest(%q) reads back as %q", text, d)
		}
		if back, err := oci.DigestFromBinary(d.Binary()); err != nil || back != d {
			t.Fatalf("short form of %q reads back as %v, %v", text, back, err)
		}
	})
}

func FuzzDigestFromBinary(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add(oci.MustParseDigest(hello256).Binary())
	f.Add(oci.MustParseDigest(hello512).Binary())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := oci.DigestFromBinary(b)
		if err == nil && (d.IsZero() || !bytes.Equal(d.Binary(), b)) {
			t.Fatalf("%x reads back as %x", b, d.Binary())
		}
	})
}
