package peer

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxSecretFile is the most that is read of a secret file in bytes: a thousand keys, of which 16 may be there.
	maxSecretFile = 64 << 10
	// maxKeys bounds the keys that every packet may have to be tried with. A rotation needs two.
	maxKeys = 16
	// minPassphrase is the fewest characters of a passphrase. Nothing slows down who guesses, so short ones are no secret.
	minPassphrase = 16
	// derivedSize is the length of a derived key in bytes: AES-256, and HMAC-SHA256 at its full strength.
	derivedSize = 32
)

// Secret holds the keys of a cluster, of which the first signs and encrypts and all are accepted. It never shows them.
type Secret struct {
	// ring is behind a pointer so that printing something that holds a Secret shows no bytes.
	ring *ring
}

// ring holds what is derived from each key, in the order of the file.
type ring struct {
	gossip [][]byte
	mac    [][]byte
	open   bool // there is no secret: everybody can know these keys
}

// String shows no bytes of any key.
func (s Secret) String() string { return "[secret]" }

// LogValue shows no bytes either.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// LoadSecret reads the secret file of a cluster. An error says what is wrong and with which line, and never what the line
// says.
func LoadSecret(file, cluster string) (Secret, error) {
	f, err := os.Open(file)
	if err != nil {
		return Secret{}, fmt.Errorf("open secret file: %w (peers.secret_file names another)", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return Secret{}, fmt.Errorf("read secret file %s: %w", file, err)
	}
	s, err := ParseSecret(text, cluster)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret file %s: %w", file, err)
	}
	return s, nil
}

// TrySecret reads the secret file, if there is one, and returns what a start would say of it.
func (c Config) TrySecret() error {
	if c.SecretFile == "" {
		return nil
	}
	_, err := LoadSecret(c.SecretFile, c.Cluster)
	return err
}

// ParseSecret reads one key from each line, for the cluster of that name; empty lines and lines that begin with # are
// left out. A key is 16, 24 or 32 bytes in hexadecimal digits or base64, or a passphrase of at least 16 characters.
// Whatever it is, it is stretched to one key for gossip and another for signatures, neither of which leads to the other.
func ParseSecret(text []byte, cluster string) (Secret, error) {
	if len(text) > maxSecretFile {
		return Secret{}, fmt.Errorf("it is longer than %d bytes: write one key a line", maxSecretFile)
	}
	if !utf8.Valid(text) {
		return Secret{}, fmt.Errorf("it is not text: write keys as hexadecimal digits or base64, for example with \"openssl rand -base64 32\"")
	}
	var keys [][]byte
	for number, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return Secret{}, fmt.Errorf("line %d: %w", number+1, err)
		}
		if slices.ContainsFunc(keys, func(other []byte) bool { return bytes.Equal(key, other) }) {
			return Secret{}, fmt.Errorf("line %d: the key is there already: remove one of the two", number+1)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return Secret{}, fmt.Errorf("it holds no key: write one, for example with \"openssl rand -base64 32\"")
	}
	if len(keys) > maxKeys {
		return Secret{}, fmt.Errorf("it holds %d keys, want at most %d: remove those that no member uses", len(keys), maxKeys)
	}
	return derive(keys, cluster)
}

// parseKey returns the bytes that a line stands for. What could be several forms is the first of them, on every node.
func parseKey(line string) ([]byte, error) {
	if key, err := hex.DecodeString(line); err == nil && isKeySize(len(key)) {
		return key, nil
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		if key, err := encoding.DecodeString(line); err == nil && isKeySize(len(key)) {
			return key, nil
		}
	}
	if n := utf8.RuneCountInString(line); n < minPassphrase {
		return nil, fmt.Errorf("a passphrase of %d characters is too short, want at least %d, or a key from \"openssl rand -base64 32\"", n, minPassphrase)
	}
	return []byte(line), nil
}

func isKeySize(n int) bool { return n == 16 || n == 24 || n == 32 }

// derive stretches keys with HKDF-SHA256. The name of the cluster is the salt, so that two clusters with one secret file
// do not accept each other's messages.
func derive(keys [][]byte, cluster string) (Secret, error) {
	r := &ring{}
	for _, key := range keys {
		gossip, err := hkdf.Key(sha256.New, key, []byte(cluster), "mirror peers: gossip, version 1", derivedSize)
		if err != nil {
			return Secret{}, fmt.Errorf("derive keys: %w", err)
		}
		mac, err := hkdf.Key(sha256.New, key, []byte(cluster), "mirror peers: transfer, version 1", derivedSize)
		if err != nil {
			return Secret{}, fmt.Errorf("derive keys: %w", err)
		}
		r.gossip, r.mac = append(r.gossip, gossip), append(r.mac, mac)
	}
	return Secret{ring: r}, nil
}

// noSecret stands for the secret of a cluster on loopback that has none. Gossip is not encrypted then. Transfers are
// signed all the same, with a key that everybody can derive: it proves nothing, and spares the code a second way.
func noSecret(cluster string) (Secret, error) {
	s, err := derive([][]byte{nil}, cluster)
	if err != nil {
		return Secret{}, err
	}
	s.ring.open = true
	return s, nil
}

// isReadableByAll tells whether every user of the machine can read a file. What cannot be told is not.
func isReadableByAll(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
