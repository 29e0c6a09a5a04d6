package upstream

import (
	"errors"
	"testing"

	"mirror/internal/upstream/upstreamtest"
)

// TestRememberedPlaceIsGuarded: the place that an endpoint has pointed to is looked at again each time. By then its name
// may have become that of a private address.
func TestRememberedPlaceIsGuarded(t *testing.T) {
	origin := upstreamtest.New(t)
	d := origin.AddBlob("app", make([]byte, 100))
	origin.UseCDN()
	r := build(t, Config{Endpoints: []string{origin.URL}})
	download := r.Download("app", d)
	body, err := download.Open(t.Context(), 0, 50)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	r.private.Store(false) // as if the registry had been at a public address all the time
	if _, err := download.Open(t.Context(), 50, 100); !errors.Is(err, ErrWrongContent) || !errors.Is(err, errPrivateAddress) {
		t.Errorf("got %v, want a refusal", err)
	}
	if n := origin.Count(upstreamtest.CDN, ""); n != 1 {
		t.Errorf("%d requests reached the place, want only the one before", n)
	}
}
