package peer

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"mirror/internal/oci"
)

// Paths of the transfer protocol, version 1. They are on a listener of their own.
const (
	Prefix       = "/_peer/v1/"
	PathBlob     = Prefix + "blob/"
	PathManifest = Prefix + "manifest/"
	PathTag      = Prefix + "tag/"
	// PathPing answers 204 to whoever asks, without a signature.
	PathPing = Prefix + "ping"
)

// Headers of the transfer protocol. The lists of names are separated by commas.
const (
	HeaderDead = "Peer-Dead" // request: members that the sender found dead
	HeaderSlow = "Peer-Slow" // request: members that send too slowly to the sender
	HeaderHop  = "Peer-Hop"  // request: how many members it has passed
	// HeaderMoving is in an answer without content: 1 when the bytes are on their way to the one who answers, n when they are to a
	// member n-1 further on.
	HeaderMoving = "Peer-Moving"
	HeaderSize   = "Peer-Size"  // answer without content: the length of the blob in bytes, when it is known
	HeaderWhole  = "Peer-Whole" // answer: "1" when the registry has no ranges, so the blob is one key
	HeaderNode   = "Peer-Node"  // answer 307: the member to ask instead
	// HeaderSignature is on answers that no digest checks.
	HeaderSignature = "Peer-Signature"
	OnlyIfCached    = "only-if-cached"
)

// What a member answers to an Ask, as HTTP statuses. Refusals of the upstream are passed on with theirs.
const (
	StatusContent  = http.StatusPartialContent     // here it is
	StatusNotYet   = http.StatusAccepted           // it is coming: ask again at once
	StatusAskOther = http.StatusTemporaryRedirect  // ask the member in HeaderNode, as a parent
	StatusNotHeld  = http.StatusGatewayTimeout     // it is not here, and was asked for only if it is
	StatusUnable   = http.StatusServiceUnavailable // this member serves nothing now
	StatusFailed   = http.StatusBadGateway         // the upstream could not be reached
)

// maxHops is a safety net: rising ranks are what keeps requests from going in circles.
const maxHops = 8

// maxNames bounds the lists of a request. More dead members than that are found again.
const maxNames = 64

// Role says as what a member is asked.
type Role uint8

const (
	// AsOwner means that the asker holds you for the owner. Get the chunk if you lack it, or name an earlier asker.
	AsOwner Role = iota
	// AsParent means that the owner has named you. Get the chunk if you lack it.
	AsParent
	// AsHolder wants only what you have.
	AsHolder
)

var roleNames = [...]string{"owner", "parent", "holder"}

// String returns the name of the role on the wire.
func (r Role) String() string { return roleNames[r] }

// Content names a blob or a manifest in a repository. Who asks for it names the repository, because access goes by it.
type Content struct {
	Registry, Repository string
	Digest               oci.Digest
}

// Ask is a request for bytes of one chunk.
type Ask struct {
	Content
	// Key is the number of the chunk that decides who owns the bytes: that of the chunk itself, or 0 for all of a blob whose
	// registry has no ranges.
	Key int64
	// Start and End are the bytes [Start, End) that are wanted: the chunk, or what is missing of it.
	Start, End int64
	Role       Role
	// Dead are members that the asker found dead; Slow, parents that send too slowly; Not, parents that have nothing to send; and
	// Unable, members that have said that they cannot get the chunk.
	Dead, Slow, Not, Unable []string
	// Hop counts the members that the request has passed.
	Hop int
}

func inRepository(registry, repository string) string {
	return url.Values{"ns": {registry}, "repo": {repository}}.Encode()
}

// target returns path and query.
func (a Ask) target() string {
	q := url.Values{"ns": {a.Registry}, "repo": {a.Repository}, "key": {strconv.FormatInt(a.Key, 10)}, "as": {a.Role.String()}}
	if len(a.Not) > 0 {
		q.Set("not", strings.Join(a.Not, ","))
	}
	if len(a.Unable) > 0 {
		q.Set("unable", strings.Join(a.Unable, ","))
	}
	return PathBlob + a.Digest.String() + "?" + q.Encode()
}

// span returns the Range header.
func (a Ask) span() string { return fmt.Sprintf("bytes=%d-%d", a.Start, a.End-1) }

// signed returns what the signature of the request covers.
func (a Ask) signed() Request {
	return Request{
		Method: http.MethodGet, Target: a.target(), Range: a.span(), Hop: strconv.Itoa(a.Hop),
		Dead: strings.Join(a.Dead, ","), Slow: strings.Join(a.Slow, ","), OnlyIfCached: a.Role == AsHolder,
	}
}

// ParseAsk reads a request for a chunk. r is the request as it came, whose signature was checked: what is wrong with it
// was sent by a member of another version. The error matches ErrMalformed.
func ParseAsk(r Request) (Ask, error) {
	var a Ask
	path, query, err := split(r.Target)
	if err != nil {
		return a, err
	}
	text, ok := strings.CutPrefix(path, PathBlob)
	if !ok {
		return a, fmt.Errorf("%w: path %q", ErrMalformed, path)
	}
	if a.Content, err = parseContent(text, query); err != nil {
		return a, err
	}
	if a.Key, err = parseCount(query.Get("key")); err != nil {
		return a, err
	}
	if a.Role, err = parseRole(query.Get("as")); err != nil {
		return a, err
	}
	if a.Start, a.End, err = parseSpan(r.Range); err != nil {
		return a, err
	}
	hop, err := parseCount(r.Hop)
	if err != nil || hop > maxHops {
		return a, fmt.Errorf("%w: hop %q", ErrMalformed, r.Hop)
	}
	a.Hop = int(hop)
	a.Dead, a.Slow = parseNames(r.Dead), parseNames(r.Slow)
	a.Not, a.Unable = parseNames(query.Get("not")), parseNames(query.Get("unable"))
	return a, nil
}

func split(target string) (path string, query url.Values, err error) {
	path, text, _ := strings.Cut(target, "?")
	if query, err = url.ParseQuery(text); err != nil {
		return "", nil, fmt.Errorf("%w: query: %w", ErrMalformed, err)
	}
	return path, query, nil
}

func parseContent(digest string, query url.Values) (c Content, err error) {
	if c.Digest, err = oci.ParseDigest(digest); err != nil {
		return c, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c.Registry, c.Repository, err = parseRepository(query)
	return c, err
}

// parseRepository reads the names that inRepository wrote. They become part of requests to the upstream, so they are checked
// as those of a client are.
func parseRepository(query url.Values) (registry, name string, err error) {
	repo, err := oci.NewRepository(query.Get("ns"), query.Get("repo"))
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if repo.Registry == "" {
		return "", "", fmt.Errorf("%w: no registry", ErrMalformed)
	}
	return repo.Registry, repo.Name, nil
}

func parseRole(name string) (Role, error) {
	for i, known := range roleNames {
		if name == known {
			return Role(i), nil
		}
	}
	return 0, fmt.Errorf("%w: role %q", ErrMalformed, name)
}

// parseSpan reads "bytes=a-b", the one form that members send.
func parseSpan(header string) (start, end int64, err error) {
	text, ok := strings.CutPrefix(header, "bytes=")
	first, last, both := strings.Cut(text, "-")
	if start, err = parseCount(first); err == nil {
		end, err = parseCount(last)
	}
	if !ok || !both || err != nil || end < start {
		return 0, 0, fmt.Errorf("%w: range %q", ErrMalformed, header)
	}
	return start, end + 1, nil
}

// parseCount reads digits only. One bit less than there are keeps sums from overflowing.
func parseCount(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("%w: number %q", ErrMalformed, text)
	}
	return int64(n), nil
}

// parseNames reads a list of members' names. What is no name is left out: lists are hints.
func parseNames(list string) []string {
	if list == "" {
		return nil
	}
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if isName(name) && len(names) < maxNames {
			names = append(names, name)
		}
	}
	return names
}
