//go:build linux

package netlab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clientIn returns a client whose connections begin in a namespace.
func clientIn(n namespace) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = n.inside(func() (err error) {
				conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
}

// Answer is what a node answered to a request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Get asks the node's registry API.
func (n *Node) Get(ctx context.Context, path string) (*Answer, error) {
	return n.ask(ctx, "http://127.0.0.1:5000"+path)
}

func (n *Node) ask(ctx context.Context, url string) (*Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", manifestType)
	response, err := n.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return &Answer{response.StatusCode, response.Header, body}, err
}

// Transfer makes a request of any kind to the address at which peers are served, from the namespace of another node.
func (n *Node) Transfer(from *Node, request *http.Request) (*http.Response, error) {
	request.URL.Scheme, request.URL.Host = "http", n.settings.Address+":7947"
	return from.client.Do(request)
}

// Manifest gets the manifest of a tag, and returns its digest.
func (n *Node) Manifest(ctx context.Context, tag string) (digest string, err error) {
	a, err := n.Get(ctx, "/v2/"+repository+"/manifests/"+tag)
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK {
		return "", &StatusError{a.Status, string(a.Body)}
	}
	return digestOf(a.Body), nil
}

// StatusError is an answer that is no content.
type StatusError struct {
	Status int
	Body   string
}

// Error names the status.
func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

// ErrDigest means that the bytes that a client got are not those that it asked for.
var ErrDigest = errors.New("the bytes do not match the digest")

// Blob gets a layer and compares it with its digest.
func (n *Node) Blob(ctx context.Context, layer Layer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:5000/v2/"+repository+"/blobs/"+layer.Digest, nil)
	if err != nil {
		return err
	}
	response, err := n.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return &StatusError{response.StatusCode, string(text)}
	}
	hash := sha256.New()
	if got, err := io.Copy(hash, response.Body); err != nil {
		return fmt.Errorf("after %d bytes: %w", got, err)
	}
	if fmt.Sprintf("sha256:%x", hash.Sum(nil)) != layer.Digest {
		return ErrDigest
	}
	return nil
}

// Pull gets the manifest of a layer's tag and the layer, as a client does. A body that breaks off is asked for again, as clients
// do: three times in all.
func (n *Node) Pull(ctx context.Context, layer Layer) error {
	if _, err := n.Manifest(ctx, layer.Tag); err != nil {
		return fmt.Errorf("%s: manifest: %w", n.Name, err)
	}
	var err error
	for range 3 {
		if err = n.Blob(ctx, layer); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s: layer: %w", n.Name, err)
	}
	return nil
}

// Pulled is the outcome of many pulls at the same time.
type Pulled struct {
	Times []time.Duration // of those that succeeded, in order of length, from the start of the first
	Errs  []error         // of the others
}

// Last is when all were done.
func (p Pulled) Last() time.Duration { return p.quantile(1) }

// Median is when half were done.
func (p Pulled) Median() time.Duration { return p.quantile(0.5) }

func (p Pulled) quantile(q float64) time.Duration {
	if len(p.Times) == 0 {
		return 0
	}
	return p.Times[int(q*float64(len(p.Times)-1))]
}

// PullAll lets nodes pull a layer, which they begin within a time.
func PullAll(ctx context.Context, nodes []*Node, layer Layer, within time.Duration) Pulled {
	var (
		mu    sync.Mutex
		p     Pulled
		pulls sync.WaitGroup
		begin = time.Now()
	)
	for i, n := range nodes {
		pulls.Go(func() {
			time.Sleep(within * time.Duration(i) / time.Duration(len(nodes)))
			err := n.Pull(ctx, layer)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				p.Errs = append(p.Errs, err)
			} else {
				p.Times = append(p.Times, time.Since(begin))
			}
		})
	}
	pulls.Wait()
	slices.Sort(p.Times)
	return p
}

// Metric returns a metric of the node, as /metrics names it with its labels.
func (n *Node) Metric(name string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := n.ask(ctx, "http://127.0.0.1:5001/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(a.Body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", n.Name, name)
}

// ready waits until the node serves.
func (n *Node) ready() error {
	return n.eventually("be ready", patience, func(ctx context.Context) (bool, error) {
		a, err := n.ask(ctx, "http://127.0.0.1:5001/readyz")
		return err == nil && a.Status == http.StatusOK, err
	})
}

// knows waits until the node knows so many members.
func (n *Node) knows(members int) error {
	return n.eventually(fmt.Sprintf("know %d members", members), meetPatience, func(context.Context) (bool, error) {
		own, err := n.Metric(`mirror_peer_members{zone="own"}`)
		if err != nil {
			return false, err
		}
		other, err := n.Metric(`mirror_peer_members{zone="other"}`)
		return int(own+other) == members, err
	})
}

// eventually waits for a node to do something.
func (n *Node) eventually(what string, within time.Duration, is func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		ok, err := is(ctx)
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s did not %s within %v: %w; its log:\n%s", n.Name, what, within, cmp.Or(err, ctx.Err()), n.Log())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
