package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mirror/internal/config"
	"mirror/internal/units"
)

var update = flag.Bool("update", false, "write golden files and generated documents anew")

// TestProblems loads every file of testdata and compares the whole error text with the golden file beside it.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("list testdata: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := config.Load(file, nil)
			if err == nil {
				t.Fatal("the file was accepted")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", err.Error()+"\n")
		})
	}
}

// golden compares got with a file, or writes the file when the test runs with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\n%s says\n%s", got, file, want)
	}
}

func TestLoadWithoutFileIsDefault(t *testing.T) {
	got, err := config.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := config.Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLoadKeepsDefaultsOfWhatIsNotWritten(t *testing.T) {
	got := loadText(t, `
server: {drain_timeout: 2m}
cache:
  max_size: 1TiB
  memory:
upstreams:
  - registry: registry.example:5000
    tags: {fresh_for: 1s}
    limits: {bandwidth: 200MiB/s}
`)
	want := config.Default()
	want.Server.DrainTimeout = 2 * time.Minute
	want.Cache.MaxSize = units.TiB
	up := want.Upstreams[1]
	up.Registry, up.Endpoints = "registry.example:5000", []string{"https://registry.example:5000"}
	up.Tags.FreshFor, up.Limits.Bandwidth = time.Second, units.Rate(200*units.MiB)
	want.Upstreams = append(want.Upstreams[:0:0], up)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing here\n", "---\n"} {
		if got := loadText(t, text); !reflect.DeepEqual(got, config.Default()) {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

func TestLoadNamesTheFileThatIsMissing(t *testing.T) {
	_, err := config.Load("testdata/absent.yaml", nil)
	if err == nil || !strings.Contains(err.Error(), "testdata/absent.yaml") {
		t.Errorf("got %v, want an error with the name of the file", err)
	}
}

func TestLoadRefusesHugeFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "huge.yaml")
	if err := os.WriteFile(file, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(file, nil); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v, want a refusal of the length", err)
	}
}

// loadText loads a configuration that must be right.
func loadText(t *testing.T, text string) config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mirror.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
