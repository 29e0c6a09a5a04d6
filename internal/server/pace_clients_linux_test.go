package server_test

import (
	"os"
	"strings"
	"testing"

	"mirror/internal/server"
)

// TestClientsOfThisMachineAreNotPaced where the machine paces, and are sent to as it says elsewhere.
func TestClientsOfThisMachineAreNotPaced(t *testing.T) {
	setting, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(string(setting))
	if strings.HasPrefix(want, "bbr") {
		want = "reno"
	}
	h, manifest := pollable(t)
	c := h.asked(manifest)
	if got := server.ConnOf(h.server, c.LocalAddr()).Congestion; got != want {
		t.Errorf("got %q, want %q: this machine uses %s", got, want, setting)
	}
}
