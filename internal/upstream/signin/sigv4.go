package signin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// awsKeys are the keys that requests to AWS are signed with.
type awsKeys struct {
	id      string
	secret  string
	session string // empty for long-lived keys
}

// secrets lists what must not be shown.
func (k awsKeys) secrets() []string { return []string{k.secret, k.session} }

// sign adds AWS Signature Version 4 to a request with this body. Every header that it has at that time is signed.
func (k awsKeys) sign(req *http.Request, body, region, service string, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	req.Header.Set("X-Amz-Date", stamp)
	if k.session != "" {
		req.Header.Set("X-Amz-Security-Token", k.session)
	}
	names, lines := canonicalHeaders(req)
	request := strings.Join([]string{
		req.Method, canonicalPath(req.URL), canonicalQuery(req.URL), lines, names, hexHash(body),
	}, "\n")
	scope := stamp[:8] + "/" + region + "/" + service + "/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hexHash(request)
	signature := hex.EncodeToString(mac(k.signingKey(stamp[:8], region, service), text))
	req.Header.Set("Authorization",
		"AWS4-HMAC-SHA256 Credential="+k.id+"/"+scope+", SignedHeaders="+names+", Signature="+signature)
}

// signingKey derives the key for one day, region and service.
func (k awsKeys) signingKey(day, region, service string) []byte {
	key := []byte("AWS4" + k.secret)
	for _, part := range []string{day, region, service, "aws4_request"} {
		key = mac(key, part)
	}
	return key
}

// canonicalHeaders returns the sorted names of the signed headers, and their lines, each ended by a line feed.
func canonicalHeaders(req *http.Request) (names, lines string) {
	values := map[string]string{"host": orDefault(req.Host, req.URL.Host)}
	for name, list := range req.Header {
		trimmed := make([]string, len(list))
		for i, value := range list {
			trimmed[i] = strings.Join(strings.Fields(value), " ")
		}
		values[strings.ToLower(name)] = strings.Join(trimmed, ",")
	}
	var sorted []string
	for name := range values {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		lines += name + ":" + values[name] + "\n"
	}
	return strings.Join(sorted, ";"), lines
}

func canonicalPath(u *url.URL) string { return orDefault(u.EscapedPath(), "/") }

// canonicalQuery sorts by name. AWS wants a blank as %20, where forms have a plus.
func canonicalQuery(u *url.URL) string { return strings.ReplaceAll(u.Query().Encode(), "+", "%20") }

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
