package server

import (
	"fmt"
	"testing"

	"mirror/internal/oci"
)

// TestRouteTable finds what was kept for an address, and nothing for any other.
func TestRouteTable(t *testing.T) {
	table := newRouteTable()
	address := func(path, query, host string) *glance {
		return &glance{path: []byte(path), query: []byte(query), host: []byte(host)}
	}
	kept := address("/v2/a/manifests/1", "ns=docker.io", "mirror.test")
	table.keep(kept, &route{namespace: "docker.io"})
	f := func(request *glance, want bool) {
		t.Helper()
		if got := table.find(request); (got != nil) != want || want && got.namespace != "docker.io" {
			t.Errorf("%q?%q on %q: %+v", request.path, request.query, request.host, got)
		}
	}
	f(kept, true)
	f(address("/v2/a/manifests/1", "", "mirror.test"), false)
	f(address("/v2/a/manifests/1", "ns=docker.io", "other.test"), false)
	f(address("/v2/a/manifests/2", "ns=docker.io", "mirror.test"), false)
	long := address("/v2/"+string(make([]byte, seenLength)), "", "mirror.test")
	table.keep(long, &route{})
	f(long, false)
	for i := range 100 * seenRoutes {
		table.keep(address(fmt.Sprint("/v2/a/manifests/", i), "", "mirror.test"), &route{reference: oci.Reference{Tag: fmt.Sprint(i)}})
	}
	found := 0
	for i := range 100 * seenRoutes {
		if r := table.find(address(fmt.Sprint("/v2/a/manifests/", i), "", "mirror.test")); r != nil {
			if found++; r.reference.Tag != fmt.Sprint(i) {
				t.Fatalf("the route of tag %d is that of %s", i, r.reference.Tag)
			}
		}
	}
	if found == 0 || found > seenRoutes {
		t.Errorf("%d routes are kept, want at most %d", found, seenRoutes)
	}
}
