package internal_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ours lists the packages and what each of them may import from this module. A new edge in the graph is a new word here,
// and so a line in a review.
var ours = map[string]struct {
	may []string
	why string // why everything else is forbidden
}{
	"internal/oci":             {nil, "the words of the specification depend on nothing"},
	"internal/units":           {nil, "sizes and rates depend on nothing"},
	"internal/cache":           {words("internal/oci", "internal/units"), "a mechanism knows the words, and no other mechanism"},
	"internal/catalog":         {words("internal/oci", "internal/units"), "a mechanism knows the words, and no other mechanism"},
	"internal/upstream":        {words("internal/oci", "internal/units", "internal/upstream/signin"), "a mechanism knows the words, and no other mechanism"},
	"internal/upstream/signin": {nil, "what clouds want to see has nothing to do with what registries hold"},
	"internal/peer":            {words("internal/oci", "internal/units"), "a mechanism knows the words, and no other mechanism"},
	"internal/mirror": {
		words("internal/oci", "internal/units", "internal/cache", "internal/catalog", "internal/upstream", "internal/peer"),
		"decisions stand above the mechanisms and below everything that has a wire or a file",
	},
	"internal/server": {
		words("internal/oci", "internal/mirror", "internal/cache", "internal/upstream", "internal/peer"),
		"the wire asks mirror; cache and upstream are known by their error values alone, peer by the words of its protocol",
	},
	"internal/admin": {
		words("internal/oci", "internal/units", "internal/cache", "internal/catalog", "internal/upstream", "internal/peer", "internal/mirror"),
		"operators see what is below the wire, not the wire",
	},
	"internal/config": {
		words("internal/units", "internal/cache", "internal/catalog", "internal/upstream", "internal/peer", "internal/mirror", "internal/server", "internal/admin"),
		"the file composes the Config types of the others and starts nothing",
	},
	"internal/node": {
		words("internal/oci", "internal/units", "internal/cache", "internal/catalog", "internal/upstream", "internal/peer", "internal/mirror",
			"internal/server", "internal/admin", "internal/config"),
		"wiring knows every part, but not the process around it",
	},
	"cmd/mirror":     {words("internal/config", "internal/node", "internal/admin"), "a command reads a configuration, and runs a node or asks one; what it needs beyond that belongs below"},
	"bench/eviction": {words("internal/cache"), "it measures the policy that the cache runs, and nothing around it"},
	"bench/fleet":    {words("internal/e2e/netlab"), "it runs the program, as a user would"},
	"bench/idle":     {words("internal/e2e/netlab", "internal/cache", "internal/oci", "internal/units"), "it runs the program, and makes data for it"},
	"bench/memory":   {words("internal/cache", "internal/oci", "internal/units"), "it measures hits of the cache, and nothing around it"},
	"bench/pull":     {words("bench/origin", "internal/units"), "it runs the program, as a user would"},
	"bench/origin":   {words("internal/oci"), "the registry of benchmarks knows the words, and nothing of the mirror"},
	"bench/drain":    {nil, "the client of benchmarks knows HTTP, and nothing of the mirror"},
	"bench/compare":  {words("bench/drain", "bench/origin", "internal/oci", "internal/units"), "it runs programs, the mirror among them, as a user would"},
	"bench/readers":  {words("internal/config", "internal/node", "internal/oci", "internal/units", "internal/upstream"), "it measures a node from outside"},
	"bench/start": {
		words("internal/cache", "internal/catalog", "internal/config", "internal/node", "internal/oci", "internal/units"),
		"it measures a node from outside, and the lookups of the two stores inside it",
	},
	"internal/e2e/fleet":  {words("internal/e2e/netlab"), "scenarios use the program as a stranger would, also many of them"},
	"internal/e2e/netlab": {nil, "a lab runs the program as a stranger would: with its commands, its wire and its files"},
	"internal/e2e":        {nil, "scenarios use the program as a stranger would: through its commands, its wire and its files"},
}

func words(w ...string) []string { return w }

// confined lists the imports that only some places may have. A place is a package, or "metrics.go" for the files of that
// name in every package.
var confined = []struct {
	prefix string
	places []string
	why    string
}{
	{"github.com/valyala/fasthttp", words("internal/server"), "its values are borrowed and die with the request: nothing of it may go further in"},
	{"github.com/dgraph-io/ristretto", words("internal/cache"), "the memory tier is the cache's own business"},
	{"go.etcd.io/bbolt", words("internal/cache", "internal/catalog", "bench/start"), "who else writes to disk does it without an index; bench/start writes one that would take the cache hours"},
	{"github.com/google/go-containerregistry", words("internal/upstream"), "its names and errors are the upstreams', ours are in oci"},
	{"github.com/prometheus/client_golang/prometheus/promhttp", words("internal/admin"), "metrics are exposed in one place"},
	{"github.com/hashicorp", words("internal/peer"), "who is a member is asked of peer; its library calls back with locks held"},
	{"github.com/goccy/go-yaml", words("internal/config"), "strictness is lost where a second package decodes"},
	{"github.com/spf13/", words("cmd/mirror"), "flags are the process's, constructors take values"},
	{"golang.org/x/sys", words("internal/cache", "internal/node", "internal/server", "bench/compare", "bench/drain", "bench/memory", "bench/readers", "bench/start", "internal/e2e/netlab"), "the kernel is asked for favours in few places: pages to forget or to fetch, free bytes, syncs, and descriptors; to wait for clients, and how to send to them; for figures by what measures; and for networks by a lab"},
	{"golang.org/x/time", words("internal/cache", "internal/server", "internal/upstream"), "pacing is for the scrub, for what upstreams are asked and for what peers are sent"},
	{"net/http", words("bench/compare", "bench/drain", "bench/origin", "bench/pull", "internal/admin", "internal/e2e/netlab", "internal/peer", "internal/upstream", "internal/upstream/signin", "cmd/mirror"), "HTTP stays at the edges, and the registry API is fasthttp's"},
	{"log", words("cmd/mirror"), "everything logs by log/slog with the logger it was given"},
	{"unsafe", nil, "no cast is worth a corrupted blob"},
	{"C", nil, "the program is one static binary"},
}

// drawers are package names that say nothing about what is inside, and so collect everything.
var drawers = []string{"util", "utils", "common", "helpers", "misc", "base", "types", "models", "shared", "lib"}

// maxLines is the longest that a file may be, tests excepted.
const maxLines = 500

// file is one Go file of the program; tests and test doubles are left out.
type file struct {
	name    string // path from the root of the module
	pkg     string // directory from the root of the module
	syntax  *ast.File
	imports []string
	lines   int
}

func TestImportsOfOurs(t *testing.T) {
	for _, f := range program(t) {
		rule, known := ours[f.pkg]
		if !known {
			t.Errorf("%s: package %s is not in the table: give it a layer and a reason", f.name, f.pkg)
			continue
		}
		for _, imported := range f.imports {
			target, own := strings.CutPrefix(imported, "mirror/")
			if own && !slices.Contains(rule.may, target) {
				t.Errorf("%s imports %s: %s", f.name, target, rule.why)
			}
		}
	}
}

func TestImportsOfOthers(t *testing.T) {
	for _, f := range program(t) {
		for _, imported := range f.imports {
			for _, rule := range confined {
				if under(imported, rule.prefix) && !slices.Contains(rule.places, f.pkg) {
					t.Errorf("%s imports %s: %s", f.name, imported, rule.why)
				}
			}
		}
	}
}

// under tells whether an import path is prefix or below it. A prefix with a slash at its end needs none there.
func under(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, strings.TrimSuffix(prefix, "/")+"/") && prefix != "log"
}

// TestMetricsAreMadeInOneFile lets the other files of a package hold a metric and pass a registerer on, so that what
// exists to be scraped is read in one place. Nobody scrapes what measures.
func TestMetricsAreMadeInOneFile(t *testing.T) {
	held := words("Registerer", "Counter", "Gauge", "Observer", "Registry")
	for _, f := range program(t) {
		if path.Base(f.name) == "metrics.go" || under(f.pkg, "bench/") {
			continue
		}
		for _, name := range selected(f.syntax, "prometheus") {
			if !slices.Contains(held, name) {
				t.Errorf("%s uses prometheus.%s: metrics are made in metrics.go", f.name, name)
			}
		}
	}
}

func TestHTTPServersOfTheStandardLibrary(t *testing.T) {
	registries := words("bench/", "internal/e2e/netlab")
	serving := words("Server", "Serve", "ServeTLS", "ListenAndServe", "ListenAndServeTLS", "Handle", "HandleFunc", "NewServeMux", "ServeMux", "FileServer")
	for _, f := range program(t) {
		for _, name := range selected(f.syntax, "http") {
			isRegistry := slices.ContainsFunc(registries, func(place string) bool { return under(f.pkg, place) })
			if f.pkg != "internal/admin" && !isRegistry && slices.Contains(serving, name) {
				t.Errorf("%s uses http.%s: only admin serves with net/http, and the registries of benchmarks and labs", f.name, name)
			}
		}
	}
}

func TestPrintsOnlyInCommands(t *testing.T) {
	for _, f := range program(t) {
		for _, name := range selected(f.syntax, "fmt") {
			if strings.HasPrefix(name, "Print") && !under(f.pkg, "cmd/") && !under(f.pkg, "bench/") {
				t.Errorf("%s uses fmt.%s: standard output belongs to the commands", f.name, name)
			}
		}
	}
}

func TestPackageNamesSaySomething(t *testing.T) {
	for _, f := range program(t) {
		if slices.Contains(drawers, f.syntax.Name.Name) {
			t.Errorf("%s: package %s is a drawer: name it for its subject", f.name, f.syntax.Name.Name)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, f := range everything(t) {
		if _, seen := comments[f.pkg]; !seen {
			comments[f.pkg] = nil
		}
		if f.syntax.Doc != nil {
			comments[f.pkg] = append(comments[f.pkg], f.name)
		}
	}
	for pkg, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s has its package comment in %d files, want one: %v", pkg, len(files), files)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, f := range everything(t) {
		if f.lines > maxLines {
			t.Errorf("%s has %d lines, want at most %d: split it", f.name, f.lines, maxLines)
		}
	}
}

// selected lists what a file uses of a package, by the package's usual name.
func selected(syntax *ast.File, pkg string) []string {
	var names []string
	ast.Inspect(syntax, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if left, ok := selector.X.(*ast.Ident); ok && left.Name == pkg {
			names = append(names, selector.Sel.Name)
		}
		return true
	})
	return names
}

// program lists the files that end up in the binary. Packages named <something>test are test doubles: they may import
// what they like, and only tests import them.
func program(t *testing.T) []file {
	t.Helper()
	return slices.DeleteFunc(everything(t), func(f file) bool { return strings.HasSuffix(f.pkg, "test") })
}

// everything lists every file of the module that is no test.
func everything(t *testing.T) []file {
	t.Helper()
	var files []file
	for _, top := range []string{"bench", "cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			f, err := read(name)
			files = append(files, f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) == 0 {
		t.Fatal("no Go files found: is this the module's internal directory?")
	}
	return files
}

// read parses one file.
func read(name string) (file, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	syntax, err := parser.ParseFile(token.NewFileSet(), name, content, parser.ParseComments)
	if err != nil {
		return file{}, fmt.Errorf("parse %s: %w", name, err)
	}
	short := strings.TrimPrefix(filepath.ToSlash(name), "../")
	f := file{name: short, pkg: path.Dir(short), syntax: syntax, lines: bytes.Count(content, []byte("\n"))}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, fmt.Errorf("parse %s: %w", name, err)
		}
		f.imports = append(f.imports, imported)
	}
	return f, nil
}
