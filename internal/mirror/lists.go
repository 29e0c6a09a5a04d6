package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"mirror/internal/catalog"
	"mirror/internal/oci"
	"mirror/internal/upstream"
)

// listFresh is how long a list of tags or referrers is served without asking again. Both change at any time.
const listFresh = 30 * time.Second

// maxRefusedKey bounds what of a client's query is held in memory, in bytes, because a list was refused. What clients of good
// will ask for is shorter; for the rest, the upstream is asked again.
const maxRefusedKey = 512

// TagList is a page of tags.
type TagList struct {
	Tags    []string // never nil
	More    bool     // there are tags after the last one
	Warning string   // for a Warning header
}

// Referrers is an answer of the referrers API.
type Referrers struct {
	Body     []byte // an image index, JSON
	Filtered bool   // only the artifact type that was asked for is in it
	Next     string // the query of the next page, without "?"; empty at the end
	Warning  string // for a Warning header
}

// listName names a list within its repository.
type listName struct {
	repo oci.Repository
	key  string
}

// listAnswer is the JSON of a TagList or Referrers, as it is remembered for outages.
type listAnswer []byte

// Tags lists at most n tags, in lexical order, that come after last; n must be positive.
func (m *Mirror) Tags(ctx context.Context, repo oci.Repository, n int, last string) (*TagList, error) {
	up, err := m.registry(repo)
	if err != nil {
		return nil, err
	}
	key := "tags?" + url.Values{"n": {strconv.Itoa(n)}, "last": {last}}.Encode()
	list := new(TagList)
	list.Warning, err = m.list(ctx, up, listName{repo, key}, list, func(ctx context.Context) (any, bool, error) {
		page, err := up.Tags(ctx, repo.Name, n, last)
		return TagList{Tags: page.Tags, More: page.More}, len(page.Tags) > 0, err
	})
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", repo, err)
	}
	return list, nil
}

// Referrers lists the manifests whose subject is d, of one artifact type unless that is empty. page is empty or the Next
// of an earlier answer.
func (m *Mirror) Referrers(ctx context.Context, repo oci.Repository, d oci.Digest, artifactType, page string) (*Referrers, error) {
	up, err := m.registry(repo)
	if err != nil {
		return nil, err
	}
	key := "referrers/" + d.String() + "?" + url.Values{"artifactType": {artifactType}, "page": {page}}.Encode()
	list := new(Referrers)
	list.Warning, err = m.list(ctx, up, listName{repo, key}, list, func(ctx context.Context) (any, bool, error) {
		got, err := up.Referrers(ctx, repo.Name, d, artifactType, page)
		_, linked := m.catalog.Link(repo, d)
		return Referrers{Body: got.Body, Filtered: got.Filtered, Next: got.Next}, linked, err
	})
	if err != nil {
		return nil, fmt.Errorf("referrers of %s in %s: %w", d, repo, err)
	}
	return list, nil
}

// askFunc asks the upstream for a list. worth says whether to remember it: registries answer with an empty list for
// whatever names a stranger makes up, and a name that is remembered stays.
type askFunc func(context.Context) (list any, worth bool, err error)

// list reads a list into out: the remembered one while it is fresh, else the upstream's, else, when the upstream cannot
// be asked, the remembered one with a warning.
func (m *Mirror) list(ctx context.Context, up *upstream.Registry, key listName, out any, ask askFunc) (warning string, err error) {
	last, known, err := m.catalog.List(key.repo, key.key)
	if err != nil {
		m.log.Debug("remembered list could not be read", "repository", key.repo, "error", err)
	}
	age := time.Since(last.CheckedAt)
	if known && 0 <= age && age < listFresh {
		return "", json.Unmarshal(last.Body, out)
	}
	if refused, ok := m.refusedLists.get(key); ok {
		return "", remembered(key.repo, refused, ok)
	}
	servable := known && (age < up.Freshness().StaleFor || up.Offline())
	body, err := m.askList(ctx, key, servable, ask)
	if err != nil && servable && calm(err) {
		return "list was last fetched " + age.Round(time.Second).String() + " ago; " + key.repo.Registry + " " + unasked(up),
			json.Unmarshal(last.Body, out)
	}
	if refused := refusalIn(err); refused != nil && len(key.key) <= maxRefusedKey {
		m.refusedLists.add(key, refused, lifeOf(refused, up.Freshness()))
	}
	if err != nil {
		return "", err
	}
	return "", json.Unmarshal(body, out)
}

// askList asks the upstream for a list, once however many wait, and remembers the answer. When an old list could be served
// it does not wait long, and not at all while the registry is silent.
func (m *Mirror) askList(ctx context.Context, key listName, servable bool, ask askFunc) (listAnswer, error) {
	detached := m.detached(ctx)
	f, _ := m.lists.start(key, &m.running, func() (listAnswer, error) {
		ctx, cancel := context.WithTimeout(detached, fetchTimeout)
		defer cancel()
		got, worth, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(got)
		if err != nil {
			return nil, fmt.Errorf("keep list: %w", err)
		}
		if !worth { // but it replaces what is remembered
			_, worth, _ = m.catalog.List(key.repo, key.key)
		}
		if worth {
			m.catalog.SetList(key.repo, key.key, catalog.List{Body: body, CheckedAt: time.Now()})
		}
		return body, nil
	})
	if !servable {
		return f.wait(ctx)
	}
	patience := checkPatience
	if m.silent.has(key.repo.Registry) {
		patience = 0
	}
	return f.waitFor(ctx, patience) // that a long list takes time says nothing of the registry
}
