package mirror_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"mirror/internal/upstream/upstreamtest"
)

// Fifty clients who want fifty things of a repository, when its token has expired, cost one token.
func TestManyOnExpiredToken(t *testing.T) {
	const clients = 50
	origin := upstreamtest.New(t)
	for i := range clients {
		origin.AddImage("app", fmt.Sprint(i), 10)
	}
	origin.RequireToken("", "")
	h := open(t, origin)
	if _, err := h.Tags(t.Context(), repository(t, "app"), 1, ""); err != nil { // learns what the registry wants
		t.Fatal(err)
	}
	origin.ExpireTokens()
	origin.Reset()
	origin.Fail(upstreamtest.Token, -1, upstreamtest.Fault{Delay: 100 * time.Millisecond})
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			if _, err := h.Manifest(t.Context(), repository(t, "app"), tag(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := origin.Count(upstreamtest.Token, ""); n != 1 {
		t.Errorf("%d tokens were fetched, want 1", n)
	}
}
