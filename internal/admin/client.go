package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// dialTimeout bounds the connection to a mirror, which is near.
	dialTimeout = 10 * time.Second
	// longestProblem is how much of an answer that is no success is read, in bytes.
	longestProblem = 64 << 10
)

// Client asks a running mirror over its admin listener. Answers may take long, as the mirror reads many manifests for some
// of them, so only contexts end requests.
type Client struct {
	base string
	http *http.Client
}

// NewClient returns a client of the mirror whose admin listener has the given base URL, "http://127.0.0.1:5001".
func NewClient(base string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("got %q, want the URL of an admin listener such as http://127.0.0.1:5001", base)
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: strings.TrimRight(base, "/"), http: &http.Client{Transport: transport, CheckRedirect: stay}}, nil
}

// BaseURL returns the URL under which a mirror on this host answers that listens on a host:port of the configuration. An
// address for all interfaces is reached over loopback.
func BaseURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen // the validation of the configuration has refused it
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks what the mirror is doing.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, "/api/v1/status", nil, &s)
}

// Tags lists the images of a repository, of all if it is empty.
func (c *Client) Tags(ctx context.Context, repository string) (list TagList, err error) {
	query := url.Values{}
	if repository != "" {
		query.Set("repository", repository)
	}
	return list, c.ask(ctx, http.MethodGet, "/api/v1/tags", query, &list)
}

// Remove removes what a reference names: a tag, or content by digest.
func (c *Client) Remove(ctx context.Context, reference string) (done Change, err error) {
	path := "/api/v1/tags/"
	if strings.Contains(reference, "@") || strings.HasPrefix(reference, "sha256:") || strings.HasPrefix(reference, "sha512:") {
		path = "/api/v1/blobs/"
	}
	return done, c.ask(ctx, http.MethodDelete, path+segment(reference), nil, &done)
}

// RemoveRepository removes a repository with its tags and the content that only it has.
func (c *Client) RemoveRepository(ctx context.Context, repository string) (done Change, err error) {
	return done, c.ask(ctx, http.MethodDelete, "/api/v1/repositories/"+segment(repository), nil, &done)
}

// Pin pins what a reference names.
func (c *Client) Pin(ctx context.Context, reference string) (done Change, err error) {
	return done, c.ask(ctx, http.MethodPut, "/api/v1/pins", url.Values{"reference": {reference}}, &done)
}

// Unpin takes a pin back.
func (c *Client) Unpin(ctx context.Context, reference string) (done Change, err error) {
	return done, c.ask(ctx, http.MethodDelete, "/api/v1/pins", url.Values{"reference": {reference}}, &done)
}

// segment escapes what a user typed so that it is one segment of a path, whatever is in it. Slashes and dots would otherwise
// be tidied up before anybody can say what is wrong with them.
func segment(text string) string { return strings.ReplaceAll(url.PathEscape(text), ".", "%2E") }

// ask sends one request, to a path that is escaped, and reads its answer into out.
func (c *Client) ask(ctx context.Context, method, path string, query url.Values, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return c.unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return c.problem(response)
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w (is it the admin address of a mirror?)", c.base, err)
	}
	return nil
}

// unreachable says what to do when nobody answers.
func (c *Client) unreachable(err error) error {
	var reason *url.Error
	if errors.As(err, &reason) {
		err = reason.Err // the URL stands in the message already
	}
	return fmt.Errorf("no mirror answers at %s: %w: start one with mirror serve, or name its admin address with --admin", c.base, err)
}

// problem reads an answer that is no success.
func (c *Client) problem(response *http.Response) error {
	var p Problem
	err := json.NewDecoder(io.LimitReader(response.Body, longestProblem)).Decode(&p)
	switch {
	case err != nil || p.Error == "":
		return fmt.Errorf("%s answered %s: it is not the admin address of a mirror; name that with --admin", c.base, response.Status)
	case p.Hint != "":
		return fmt.Errorf("%s: %s", p.Error, p.Hint)
	}
	return errors.New(p.Error)
}
