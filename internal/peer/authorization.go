package peer

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// authorization is the content of an Authorization header between members:
//
//	Authorization: Peer <node>:<unix time>:<nonce>:<mac>
//
// The nonce makes two equal requests of one second differ. Nonce and mac are in base64 for URLs, without padding.
type authorization struct {
	node  string
	unix  int64
	nonce [12]byte
	mac   [32]byte
}

const scheme = "Peer "

// maxAuthorization is the longest header that is looked at in bytes: 206 with the longest name, the rest is room.
const maxAuthorization = 256

// encoding is strict, so that one value has one text.
var encoding = base64.RawURLEncoding.Strict()

// String returns the value of the header.
func (a authorization) String() string {
	return scheme + a.node + ":" + strconv.FormatInt(a.unix, 10) + ":" + encoding.EncodeToString(a.nonce[:]) + ":" + encoding.EncodeToString(a.mac[:])
}

// parseAuthorization is given what any client may send.
func parseAuthorization(header string) (a authorization, err error) {
	value, ok := strings.CutPrefix(header, scheme)
	if !ok || len(header) > maxAuthorization {
		return a, fmt.Errorf("%w: no Authorization of the form Peer NODE:TIME:NONCE:MAC", ErrUnsigned)
	}
	parts := strings.Split(value, ":")
	if len(parts) != 4 || !isName(parts[0]) {
		return a, fmt.Errorf("%w: %d parts in the Authorization, want NODE:TIME:NONCE:MAC", ErrUnsigned, len(parts))
	}
	a.node = parts[0]
	a.unix, err = strconv.ParseInt(parts[1], 10, 64)
	// One number has one text, as one signature has.
	if err != nil || strconv.FormatInt(a.unix, 10) != parts[1] {
		return authorization{}, fmt.Errorf("%w: the time in the Authorization is no number of seconds", ErrUnsigned)
	}
	if !decode(a.nonce[:], parts[2]) || !decode(a.mac[:], parts[3]) {
		return authorization{}, fmt.Errorf("%w: the nonce or the signature in the Authorization has a wrong length", ErrUnsigned)
	}
	return a, nil
}

// decode fills dst from base64 text of just that length.
func decode(dst []byte, text string) bool {
	if len(text) != encoding.EncodedLen(len(dst)) {
		return false
	}
	n, err := encoding.Decode(dst, []byte(text))
	return err == nil && n == len(dst)
}
