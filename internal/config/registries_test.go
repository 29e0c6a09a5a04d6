package config_test

import (
	"os"
	"strings"
	"testing"
)

// TestExamplesOfRegistriesLoad reads every example of docs/registries.md as the list of upstreams that it is a part of.
func TestExamplesOfRegistriesLoad(t *testing.T) {
	content, err := os.ReadFile("../../docs/registries.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(content), "```yaml\n")[1:]
	if len(examples) < 10 {
		t.Fatalf("%d examples, want one for each kind of registry", len(examples))
	}
	for _, example := range examples {
		text, _, _ := strings.Cut(example, "```")
		loadText(t, "upstreams:\n"+text)
	}
}
