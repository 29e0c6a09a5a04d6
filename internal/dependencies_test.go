package internal_test

import (
	"os"
	"strings"
	"testing"
)

// TestDependenciesAreExplained wants a line in the decision on dependencies for each module that ours requires directly.
func TestDependenciesAreExplained(t *testing.T) {
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	decision, err := os.ReadFile("../docs/decisions/0001-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(module)) {
		path, version, ok := strings.Cut(strings.TrimSpace(line), " v")
		if !ok || strings.HasSuffix(strings.TrimSpace(version), "// indirect") {
			continue
		}
		if short := strings.TrimPrefix(path, "github.com/"); !strings.Contains(string(decision), short) {
			t.Errorf("%s is required, but the decision on dependencies does not say why", path)
		}
	}
}
