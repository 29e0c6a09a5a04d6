//go:build e2e

package fleet_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"mirror/internal/e2e/netlab"
)

// ask lets all nodes get the manifest of a tag some times, one after the other, and returns the digests that they got.
func (f *fleet) ask(tag string, times int) map[string]int {
	var (
		mu   sync.Mutex
		got  = map[string]int{}
		asks sync.WaitGroup
	)
	for _, n := range f.Nodes {
		asks.Go(func() {
			for range times {
				digest, err := n.Manifest(f.t.Context(), tag)
				if err != nil {
					f.t.Errorf("%s: %v", n.Name, err)
				}
				mu.Lock()
				got[digest]++
				mu.Unlock()
			}
		})
	}
	asks.Wait()
	return got
}

// TestOneTagManyPulls asks for one tag everywhere while it is believed, and after it has moved.
func TestOneTagManyPulls(t *testing.T) {
	const (
		nodes, pulls = 16, 100
		freshFor     = 20 * time.Second
	)
	f := start(t, nodes, func(p *netlab.Plan) {
		p.Configure = func(_ int, s *netlab.Settings) { s.FreshFor = freshFor.String() }
	})
	f.Registry.AddLayer("1", mib, 1)
	f.Registry.AddLayer("2", mib, 2)
	begin := time.Now()
	got := f.ask("1", pulls)
	counts := f.Registry.Counts()
	t.Logf("%d pulls within %v: the registry got %d GET and %d HEAD", nodes*pulls, time.Since(begin), counts.Manifests, counts.Heads)
	if asked := counts.Manifests + counts.Heads; asked > 2 || len(got) != 1 {
		t.Errorf("the registry was asked %d times, want at most twice; the fleet got %v", asked, got)
	}
	f.Registry.Move("1", "2")
	time.Sleep(freshFor + 500*time.Millisecond)
	if got := f.ask("1", 1); got[f.Registry.ManifestOf("2")] != nodes {
		t.Errorf("%v after the tag has moved some nodes name the old digest: %v", freshFor, got)
	}
}

// TestATagThatIsNeverFresh is asked for by everybody at once, when all have it: whoever comes while it is being checked joins that.
func TestATagThatIsNeverFresh(t *testing.T) {
	f := start(t, 16, func(p *netlab.Plan) {
		p.Configure = func(_ int, s *netlab.Settings) { s.FreshFor = "0s" }
	})
	f.Registry.AddLayer("1", mib, 1)
	f.ask("1", 1)
	f.Registry.Reset()
	f.ask("1", 1)
	counts := f.Registry.Counts()
	t.Logf("16 pulls at once: the registry got %d GET and %d HEAD", counts.Manifests, counts.Heads)
	if counts.Manifests != 0 || counts.Heads > 2 {
		t.Errorf("the registry was asked %+v, want one HEAD, or two when somebody comes late", counts)
	}
}

// TestTheRegistryRefuses lets all nodes ask for what the registry does not give.
func TestTheRegistryRefuses(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusUnauthorized, http.StatusTooManyRequests} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			f := start(t, 8, nil)
			layer := f.Registry.AddLayer("1", 8*mib, 1)
			f.Registry.Refuse(status)
			answers := f.refused(layer)
			counts := f.Registry.Counts()
			t.Logf("answers %v; the registry was asked %d times", answers, counts.Refused)
			if len(answers) != 1 || counts.Bytes > small {
				t.Errorf("the nodes answered %v, want all the same; the registry sent %d bytes", answers, counts.Bytes)
			}
		})
	}
}

// refused lets all nodes ask for a layer, and counts the statuses that they answer.
func (f *fleet) refused(layer netlab.Layer) map[int]int {
	var (
		mu      sync.Mutex
		answers = map[int]int{}
		asks    sync.WaitGroup
	)
	for _, n := range f.Nodes {
		asks.Go(func() {
			status := 0
			if refused, ok := errors.AsType[*netlab.StatusError](n.Blob(f.t.Context(), layer)); ok {
				status = refused.Status
			}
			mu.Lock()
			defer mu.Unlock()
			answers[status]++
		})
	}
	asks.Wait()
	return answers
}
