package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"mirror/internal/peer"
)

func TestPlacesForUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUploads(0)
		for range uploadsMost {
			if !u.enter(t.Context()) {
				t.Fatal("there is no place although few are taken")
			}
		}
		began := time.Now()
		if u.enter(t.Context()) || time.Since(began) != peer.HoldTime {
			t.Errorf("an asker beyond the bound was told so after %v, want %v", time.Since(began), peer.HoldTime)
		}
		time.AfterFunc(peer.HoldTime/2, u.leave)
		if !u.enter(t.Context()) {
			t.Error("a place that became free was not given away")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if began = time.Now(); u.enter(ctx) || time.Since(began) > 0 {
			t.Error("a place, or a wait, although the server stops")
		}
	})
}
