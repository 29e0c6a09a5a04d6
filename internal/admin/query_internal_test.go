package admin

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzQuery checks that whatever comes as a query is read or refused, and that what is read was asked for.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "n=1", "n=1&n=2", "last=a%3Ab", "n=-1", "n=%", "x=y", "n=1;last=2", "unreferenced=true", "last=docker.io/a@b", "last=/", "last=a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := readQuery(raw, "n", "last", "unreferenced")
		if err != nil {
			refused(t, err)
			return
		}
		if n, err := readLimit(query["n"]); err != nil {
			refused(t, err)
		} else if n < 0 || n > maxPage || n == 0 && query["n"] != "" {
			t.Errorf("%q: a page of %d", raw, n)
		}
		if _, err := readFlag("unreferenced", query["unreferenced"]); err != nil {
			refused(t, err)
		}
		if place, err := readPlace(query["last"]); err == nil && query["last"] != "" {
			if again, err := readPlace(place.String()); err != nil || again != place {
				t.Errorf("%q: place %+v reads as %+v, %v", raw, place, again, err)
			}
		}
	})
}

// refused fails the test unless the error is about what was sent, and says so in few words.
func refused(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[badRequest](err); !ok || len(err.Error()) > 1000 {
		t.Errorf("refused by %T: %v", err, err)
	}
}

const document = "../../docs/api.md"

// TestDocumentShowsEveryRoute looks for each route and each field of each answer in docs/api.md.
func TestDocumentShowsEveryRoute(t *testing.T) {
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	routes := routesOfAPI()
	for _, r := range routes {
		if shown := strings.ReplaceAll(r.pattern, "...", ""); !strings.Contains(text, "## `"+shown) {
			t.Errorf("%s has no section %q", document, "## `"+shown)
		}
	}
	if sections := strings.Count(text, "\n## `"); sections != len(routes) {
		t.Errorf("%s has %d sections for %d routes", document, sections, len(routes))
	}
	for _, answer := range []any{Status{}, TagList{}, BlobList{}, Change{}, Problem{}} {
		for _, field := range fieldsOf(reflect.TypeOf(answer)) {
			if !strings.Contains(text, `"`+field+`":`) {
				t.Errorf("%s shows no %q, a field of %T", document, field, answer)
			}
		}
	}
}

// fieldsOf lists the names that a type has in JSON, with those of the types in it.
func fieldsOf(of reflect.Type) (names []string) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
		return nil
	}
	for i := range of.NumField() {
		if name, _, tagged := strings.Cut(of.Field(i).Tag.Get("json"), ","); tagged || name != "" {
			names = append(append(names, name), fieldsOf(of.Field(i).Type)...)
		}
	}
	return names
}
