package config_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"mirror/internal/config"
)

const document = "../../docs/configuration.md"

// The part of the document between these lines is written from reference.yaml by a run with -update.
const (
	tableBegin = "<!-- keys: written by go test ./internal/config -update -->\n"
	tableEnd   = "<!-- end of keys -->\n"
)

// TestDocumentShowsEveryKey compares the table of docs/configuration.md with reference.yaml.
func TestDocumentShowsEveryKey(t *testing.T) {
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(content), tableBegin)
	_, after, closed := strings.Cut(rest, tableEnd)
	if !ok || !closed {
		t.Fatalf("%s lacks the lines that surround the table of keys", document)
	}
	golden(t, document, before+tableBegin+keyTable(t)+tableEnd+after)
}

// keyTable renders every key with its default and its comment, in the order of reference.yaml.
func keyTable(t *testing.T) string {
	t.Helper()
	documented := documentedKeys(t)
	text := "| key | default | meaning |\n|---|---|---|\n"
	for _, key := range slices.SortedFunc(maps.Keys(leaves(config.Default())), byPlace(t)) {
		shown := strings.Replace(key, "[0]", "[]", 1)
		text += fmt.Sprintf("| `%s` | `%s` | %s |\n", shown, documented[key].value, documented[key].comment)
	}
	return text
}

// byPlace orders keys as reference.yaml does.
func byPlace(t *testing.T) func(a, b string) int {
	t.Helper()
	documented := documentedKeys(t)
	return func(a, b string) int { return documented[a].line - documented[b].line }
}
