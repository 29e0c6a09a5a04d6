package catalog

import (
	"fmt"
	"strings"
	"testing"
)

func TestMediaTypesAreBounded(t *testing.T) {
	types := newMediaTypes()
	for i := range maxMediaTypes {
		name := fmt.Sprint("application/vnd.example.", i)
		n := types.number(name)
		if n == 0 || types.name(n) != name || types.number(name) != n {
			t.Fatalf("type %q has number %d, which is %q", name, n, types.name(n))
		}
	}
	for _, name := range []string{"", "application/one.more", strings.Repeat("x", maxMediaType+1)} {
		if n := types.number(name); n != 0 {
			t.Errorf("type %q has number %d", name, n)
		}
		if got := types.shared(name); got != name {
			t.Errorf("type %q is shared as %q", name, got)
		}
	}
	if got := types.name(0); got != "" {
		t.Errorf("no type is %q", got)
	}
}
