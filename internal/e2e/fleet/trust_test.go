//go:build e2e

package fleet_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"mirror/internal/e2e/netlab"
)

// TestAPeerThatSendsWrongBytes has a member with bad memory, which signs what it sends as all do. Some clients see a body break
// off and ask again; none gets a wrong byte for a right one.
func TestAPeerThatSendsWrongBytes(t *testing.T) {
	f := start(t, 6, nil)
	f.must(f.Nodes[5].Tamper(mib / 2))
	layer := f.Registry.AddLayer("1", 16*mib, 1)
	f.pull(f.Nodes, layer) // compares the digests, and asks three times at most
	f.must(f.Registry.Stop())
	f.pull(f.Nodes, layer) // what is stored now
	if wrong := f.sum("mirror_peer_wrong_chunks_total", f.Nodes...); wrong == 0 {
		t.Error("no node has counted a chunk with wrong bytes")
	}
}

// TestAMemberWithAnotherSecret is no member, and pulls alone.
func TestAMemberWithAnotherSecret(t *testing.T) {
	f := assemble(t, 4, func(p *netlab.Plan) {
		p.Configure = func(i int, s *netlab.Settings) {
			if i == 3 {
				s.SecretFile = filepath.Join(p.Dir, "another")
				if err := os.WriteFile(s.SecretFile, []byte("the passphrase of somebody else\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	for _, n := range f.Nodes {
		f.must(n.Start())
	}
	members, stranger := f.Nodes[:3], f.Nodes[3]
	layer := f.Registry.AddLayer("1", 8*mib, 1)
	f.pull(members, layer)
	f.sentAtMost(layer, 1.01)
	f.pull([]*netlab.Node{stranger}, layer)
	if in := f.sum(`mirror_peer_bytes_total{direction="in"}`, stranger); in != 0 {
		t.Errorf("the stranger got %v bytes from members", in)
	}
	if refused := f.sum(`mirror_peer_refused_total{reason="secret"}`, f.Nodes...); refused == 0 {
		t.Error("nobody has counted that the secrets differ")
	}
}

// TestRequestsThatNobodySigned go to the address where members serve each other.
func TestRequestsThatNobodySigned(t *testing.T) {
	f := start(t, 2, nil)
	layer := f.Registry.AddLayer("1", 4*mib, 1)
	for name, authorization := range map[string]string{
		"unsigned":         "",
		"a made-up one":    "Peer n2:1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"of another kind":  "Bearer token",
		"of nobody at all": "Peer ::",
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
				"http://peer/_peer/v1/blob/"+layer.Digest+"?as=owner&key=0&ns=registry.test&repo=app", nil)
			f.must(err)
			request.Header.Set("Range", "bytes=0-1048575")
			request.Header.Set("Peer-Hop", "1")
			if authorization != "" {
				request.Header.Set("Authorization", authorization)
			}
			response, err := f.Nodes[0].Transfer(f.Nodes[1], request)
			f.must(err)
			defer response.Body.Close()
			if response.StatusCode != http.StatusUnauthorized {
				t.Errorf("got %s, want 401", response.Status)
			}
		})
	}
	if counts := f.Registry.Counts(); counts != (netlab.Counts{}) {
		t.Errorf("the registry has seen %+v", counts)
	}
}
