package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mirror/internal/oci"
)

// ErrOwn means that no peer is to be asked: this node asks the registry.
var ErrOwn = errors.New("this node asks the registry")

// documentLimit is the longest manifest in bytes.
const documentLimit = 4 << 20

// Document is a manifest as a peer sent it. Nothing about it is verified.
type Document struct {
	MediaType string
	Body      []byte
	Peer      string
}

// TagName names a tag.
type TagName struct{ Registry, Repository, Tag string }

// Tag is what a tag names, as a member says who knows the secret.
type Tag struct {
	Descriptor oci.Descriptor
	// Age is how long ago the registry was asked.
	Age  time.Duration
	Peer string
}

// Manifest gets a manifest from a member that is said to hold it, if there is one, else by way of its owner. The error is
// ErrOwn when this node has to ask the registry, or a RefusedError.
func (e *Exchange) Manifest(ctx context.Context, c Content, holder string) (*Document, error) {
	if got := e.manifestOf(ctx, c, holder); got != nil {
		return got, nil
	}
	r := Request{Method: http.MethodGet, Target: manifestTarget(c), Hop: "1"}
	var got *Document
	err := e.byOwner(ctx, ChunkKey(c.Digest, 0), r, func(m *Member, _ Proof, response *http.Response) (err error) {
		got, err = readDocument(m, response)
		return err
	})
	return got, err
}

// manifestOf gets a manifest from one member if that holds it. It is nil otherwise.
func (e *Exchange) manifestOf(ctx context.Context, c Content, holder string) (got *Document) {
	v := e.cluster.View()
	m := v.Member(holder)
	if m == nil || v.Passed(holder) || holder == v.Self().Name {
		return nil
	}
	r := Request{Method: http.MethodGet, Target: manifestTarget(c), Hop: "1", OnlyIfCached: true}
	_, _ = e.document(ctx, m, r, func(m *Member, _ Proof, response *http.Response) error { // whatever is wrong, the owner is next
		found, err := readDocument(m, response)
		if err == nil && c.Digest.Verifies(found.Body) {
			got = found
		}
		return err
	})
	return got
}

// HeldManifest gets a manifest from whoever has it, because the registry cannot be asked. It is nil when nobody has.
func (e *Exchange) HeldManifest(ctx context.Context, c Content) *Document {
	r := Request{Method: http.MethodGet, Target: manifestTarget(c), Hop: "1", OnlyIfCached: true}
	var got *Document
	e.everybody(ctx, r, func(m *Member, _ Proof, response *http.Response) error {
		found, err := readDocument(m, response)
		if err == nil && c.Digest.Verifies(found.Body) {
			got = found
		}
		return err
	}, func() bool { return got != nil })
	return got
}

// Tag asks the owner of a tag what it names. The error is ErrOwn when that is this node, or a RefusedError.
func (e *Exchange) Tag(ctx context.Context, t TagName) (Tag, error) {
	r := Request{Method: http.MethodGet, Target: tagTarget(t), Hop: "1"}
	var got Tag
	err := e.byOwner(ctx, TagKey(t.Registry, t.Repository, t.Tag), r, func(m *Member, p Proof, response *http.Response) (err error) {
		got, err = e.readTag(m, p, response)
		return err
	})
	return got, err
}

// HeldTag asks everybody what a tag names, because the registry cannot be asked, and returns what was checked last. ok
// is false when nobody knows.
func (e *Exchange) HeldTag(ctx context.Context, t TagName) (best Tag, ok bool) {
	r := Request{Method: http.MethodGet, Target: tagTarget(t), Hop: "1", OnlyIfCached: true}
	e.everybody(ctx, r, func(m *Member, p Proof, response *http.Response) error {
		found, err := e.readTag(m, p, response)
		if err == nil && (!ok || found.Age < best.Age) {
			best, ok = found, true
		}
		return err
	}, func() bool { return false })
	return best, ok
}

func manifestTarget(c Content) string {
	return PathManifest + c.Digest.String() + "?" + inRepository(c.Registry, c.Repository)
}

func tagTarget(t TagName) string {
	return PathTag + t.Tag + "?" + inRepository(t.Registry, t.Repository)
}

// ParseManifest reads the target of a request for a manifest. The error matches ErrMalformed.
func ParseManifest(target string) (Content, error) {
	path, query, err := split(target)
	if err != nil {
		return Content{}, err
	}
	return parseContent(strings.TrimPrefix(path, PathManifest), query)
}

// ParseTag reads the target of a request for a tag. The error matches ErrMalformed.
func ParseTag(target string) (TagName, error) {
	path, query, err := split(target)
	if err != nil {
		return TagName{}, err
	}
	t := TagName{Tag: strings.TrimPrefix(path, PathTag)}
	if !oci.ValidTag(t.Tag) {
		return TagName{}, fmt.Errorf("%w: not a tag", ErrMalformed)
	}
	t.Registry, t.Repository, err = parseRepository(query)
	return t, err
}

// reading takes what a member answered with status 200.
type reading func(m *Member, p Proof, response *http.Response) error

// lostMost is how many members are asked for a document at most. A request to the registry costs less than to wait for one more.
const lostMost = 4

// byOwner asks the owner of key and, when that is dead or unable, the next ranks. When two of them could not reach the
// registry, or some were of no use, this node tries for itself.
func (e *Exchange) byOwner(ctx context.Context, key Key, r Request, read reading) error {
	e.surveyRanks(key)
	var lost []string
	for failures := 0; failures < failuresMost && len(lost) < lostMost; {
		m := owner(e.cluster.View().Without(lost...), key)
		if m == nil {
			return ErrOwn
		}
		r.Dead = strings.Join(lost[:min(len(lost), maxNames)], ",")
		status, err := e.document(ctx, m, r, read)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isRefusal(err):
			return err
		case status == StatusFailed:
			failures++
		case status == 0:
			e.suspect(m)
		}
		lost = append(lost, m.Name)
	}
	return ErrOwn
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

// everybody asks all members, some at a time, until enough says that no more are needed. read is called for one at a time.
func (e *Exchange) everybody(ctx context.Context, r Request, read reading, enough func() bool) {
	v := e.cluster.View()
	list := others(v)
	for at := 0; at < len(list) && !enough() && ctx.Err() == nil; at += rescueAtOnce {
		e.some(ctx, list[at:min(at+rescueAtOnce, len(list))], r, read)
	}
}

func (e *Exchange) some(ctx context.Context, members []*Member, r Request, read reading) {
	ctx, cancel := context.WithTimeout(ctx, rescueTime)
	defer cancel()
	one := make(chan struct{}, 1) // whoever has put something in may read
	done := make(chan struct{}, len(members))
	for _, m := range members {
		go func() {
			defer func() { done <- struct{}{} }()
			_, _ = e.document(ctx, m, r, func(m *Member, p Proof, response *http.Response) error {
				one <- struct{}{}
				defer func() { <-one }()
				return read(m, p, response)
			})
		}()
	}
	for range members {
		<-done
	}
}

// document makes one request to a member. The status is 0 when it did not answer.
func (e *Exchange) document(ctx context.Context, m *Member, r Request, read reading) (status int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	request, proof, err := e.calls.request(ctx, m, r)
	if err != nil {
		return 0, err
	}
	watch := e.watch(m, stallTime, noEnd, cancel)
	defer watch.stop()
	response, err := e.calls.http.Do(request)
	if err != nil {
		return 0, fmt.Errorf("peer %s: %w", m.Name, withoutURL(err))
	}
	defer response.Body.Close()
	defer drain(response.Body)
	if err := refusal(m.Name, &answer{status: response.StatusCode, header: response.Header}); err != nil {
		return response.StatusCode, err
	}
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, fmt.Errorf("peer %s: status %d", m.Name, response.StatusCode)
	}
	return response.StatusCode, read(m, proof, response)
}

func readDocument(m *Member, response *http.Response) (*Document, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, documentLimit+1))
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", m.Name, err)
	}
	if len(body) > documentLimit {
		return nil, fmt.Errorf("peer %s: %w: a manifest of more than %d bytes", m.Name, ErrMalformed, documentLimit)
	}
	return &Document{MediaType: response.Header.Get("Content-Type"), Body: body, Peer: m.Name}, nil
}

// readTag believes what is signed, and nothing else.
func (e *Exchange) readTag(m *Member, p Proof, response *http.Response) (Tag, error) {
	h := response.Header
	size, err := parseCount(h.Get(HeaderSize))
	if err != nil {
		return Tag{}, fmt.Errorf("peer %s: %w", m.Name, err)
	}
	digest, err := oci.ParseDigest(h.Get("Docker-Content-Digest"))
	if err != nil {
		return Tag{}, fmt.Errorf("peer %s: %w", m.Name, err)
	}
	said := Answer{Status: response.StatusCode, Digest: digest.String(), MediaType: h.Get("Content-Type"), Size: size, Age: h.Get("Age")}
	if err := e.cluster.VerifyAnswer(p, said, h.Get(HeaderSignature)); err != nil {
		return Tag{}, fmt.Errorf("peer %s: %w", m.Name, err)
	}
	age, err := parseCount(said.Age)
	if err != nil || age > int64(maxAge/time.Second) {
		return Tag{}, fmt.Errorf("peer %s: %w: age %q", m.Name, ErrMalformed, said.Age)
	}
	return Tag{
		Descriptor: oci.Descriptor{MediaType: said.MediaType, Digest: digest, Size: size},
		Age:        time.Duration(age) * time.Second, Peer: m.Name,
	}, nil
}

// maxAge bounds what is believed of an age: older than any tag is served.
const maxAge = 10 * 365 * 24 * time.Hour

// SignTag signs what a tag names, for the answer to a request that was verified.
func (e *Exchange) SignTag(p Proof, t Tag) (age, signature string) {
	age = strconv.FormatInt(int64(t.Age/time.Second), 10)
	return age, e.cluster.SignAnswer(p, Answer{
		Status: http.StatusOK, Digest: t.Descriptor.Digest.String(), MediaType: t.Descriptor.MediaType, Size: t.Descriptor.Size, Age: age,
	})
}

// Verify tells who sent a request to this node; see Group.Verify.
func (e *Exchange) Verify(authorization string, r Request) (Proof, error) {
	return e.cluster.Verify(authorization, r)
}
