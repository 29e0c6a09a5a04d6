package config_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"mirror/internal/config"
)

const reference = "../../configs/reference.yaml"

func TestReferenceEqualsDefaults(t *testing.T) {
	got, err := config.Load(reference, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := config.Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("reference.yaml says\n%+v\nthe defaults are\n%+v", got, want)
	}
}

func TestReferenceShowsEveryKeyWithComment(t *testing.T) {
	documented := documentedKeys(t)
	for key := range leaves(config.Default()) {
		entry, ok := documented[key]
		if !ok {
			t.Errorf("%s is missing in reference.yaml", key)
		} else if entry.comment == "" {
			t.Errorf("%s has no comment in reference.yaml", key)
		}
	}
	for key := range documented {
		if _, ok := leaves(config.Default())[key]; !ok {
			t.Errorf("%s is in reference.yaml, but holds no value", key)
		}
	}
}

func TestMinimalLoads(t *testing.T) {
	if _, err := config.Load("../../configs/minimal.yaml", nil); err != nil {
		t.Fatal(err)
	}
}

// TestOptionalSectionsOfReferenceLoad takes the "#" away from each optional section in turn, which is what a user does.
func TestOptionalSectionsOfReferenceLoad(t *testing.T) {
	content, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ecr", "google", "azure"} {
		lines, inside := strings.Split(string(content), "\n"), false
		for i, line := range lines {
			if !strings.HasPrefix(line, "#  ") {
				continue
			}
			if strings.HasSuffix(line, ":") {
				inside = strings.HasSuffix(line, " "+name+":")
			}
			if inside {
				lines[i] = line[1:]
			}
		}
		text := strings.Replace(strings.Join(lines, "\n"), "registry: docker.io", "registry: 123456789012.dkr.ecr.eu-central-1.amazonaws.com", 1)
		credentials := loadText(t, text).Upstreams[0].Credentials
		if got := map[string]bool{"ecr": credentials.ECR != nil, "google": credentials.Google != nil, "azure": credentials.Azure != nil}; !got[name] {
			t.Errorf("%s is not read: %+v", name, credentials)
		}
	}
}

// TestDefaultIsNew guards the defaults against a caller that changes what it was given.
func TestDefaultIsNew(t *testing.T) {
	first := config.Default()
	first.Upstreams[0].Registry = "changed.example"
	first.Upstreams[0].Endpoints[0] = "https://changed.example"
	if got := config.Default().Upstreams[0]; got.Registry != "docker.io" || strings.Contains(got.Endpoints[0], "changed") {
		t.Errorf("the defaults became %+v", got)
	}
}

// documentedKey is a key of reference.yaml with the text around it.
type documentedKey struct {
	line    int
	value   string
	comment string
}

// documentedKeys reads reference.yaml line by line, because a decoder would not see the comments. It knows exactly the
// layout of that file: two spaces for each level, comments above their key, the first upstream in full, the others as
// "- registry: NAME". Optional sections are there behind a "#" in the first column.
func documentedKeys(t *testing.T) map[string]documentedKey {
	t.Helper()
	content, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]documentedKey{}
	var sections, comment []string
	for i, line := range strings.Split(string(content), "\n") {
		if strings.HasPrefix(line, "#  ") {
			line = line[1:]
		}
		text := strings.TrimSpace(line)
		if after, ok := strings.CutPrefix(text, "# "); ok {
			comment = append(comment, after)
			continue
		}
		depth := (len(line) - len(strings.TrimLeft(line, " -"))) / 2
		name, value, _ := strings.Cut(strings.TrimPrefix(text, "- "), ": ")
		name = strings.TrimSuffix(name, ":")
		if name == "upstreams" {
			name = "upstreams[0]"
		}
		if sections = append(sections[:depthIn(sections, depth)], name); value != "" {
			key := strings.Join(sections, ".")
			if _, twice := found[key]; !twice {
				found[key] = documentedKey{line: i, value: value, comment: strings.Join(comment, " ")}
			}
		}
		comment = nil
	}
	return found
}

// depthIn maps the indentation of a line to its place among the sections: entries of a list are indented once more than
// their depth.
func depthIn(sections []string, depth int) int {
	if len(sections) > 0 && sections[0] == "upstreams[0]" && depth > 1 {
		return depth - 1
	}
	return depth
}
