package mirror

import (
	"strings"
	"sync"
	"testing"
)

func TestFlightThatPanics(t *testing.T) {
	var all flights[string, int]
	var running sync.WaitGroup
	f, _ := all.start("key", &running, func() (int, error) { panic("broken") })
	if _, err := f.wait(t.Context()); err == nil || !strings.Contains(err.Error(), "panic: broken") {
		t.Errorf("got %v, want the panic as an error", err)
	}
	f, joined := all.start("key", &running, func() (int, error) { return 1, nil })
	if n, err := f.wait(t.Context()); n != 1 || err != nil || joined {
		t.Errorf("after a panic: %d, %v, joined %v", n, err, joined)
	}
	running.Wait()
}
