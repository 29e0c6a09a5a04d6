package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// setFlag begins the source of a value from the command line, in errors and in origins.
const setFlag = "--set "

// set applies one override, KEY=VALUE, to the configuration. Scalars are taken as they are, without YAML's quoting, so
// that server.listen=[::1]:5000 works; lists and mappings are YAML in one line.
func (d *decoder) set(assignment string, cfg *Config) {
	d.source = setFlag + assignment
	key, text, ok := strings.Cut(assignment, "=")
	if !ok {
		d.complain("", "want KEY=VALUE, such as --set server.listen=:5000")
		return
	}
	key = canonical(key)
	into, problem := find(reflect.ValueOf(cfg).Elem(), key)
	if problem != "" {
		d.complain(key, problem)
		return
	}
	d.assign(key, text, into)
}

// assign puts the text of an override into the value that its key names.
func (d *decoder) assign(key, text string, into reflect.Value) {
	d.origins[key] = Origin{Source: d.source}
	if isScalar(into.Type()) {
		if err := setText(into, text); err != nil {
			d.complain(key, fmt.Sprintf("got %q, want %s", text, wanted(into.Type())))
		}
		return
	}
	node, problem := parse(d.source, []byte(text))
	if problem != nil {
		d.complain(key, fmt.Sprintf("%s: want %s in YAML's one-line form", problem.Message, wanted(into.Type())))
		return
	}
	if node == nil {
		node = ast.Null(nil)
	}
	d.decode(key, node, into)
}

// complain reports a problem of the flag itself.
func (d *decoder) complain(key, message string) {
	d.problems = append(d.problems, Problem{Origin: Origin{Source: d.source}, Key: key, Message: message})
}

// listPosition matches a list position that is written as a part of its own, which no shell takes for a pattern.
var listPosition = regexp.MustCompile(`\.(\d+)(\.|$)`)

// canonical writes the path of a key with its list positions in brackets: "upstreams.0.hosts" as "upstreams[0].hosts".
func canonical(key string) string { return listPosition.ReplaceAllString(key, "[$1]$2") }

// find walks down to the value that a canonical key names. The second result says what is wrong with the key.
func find(value reflect.Value, key string) (reflect.Value, string) {
	for part := range strings.SplitSeq(strings.ReplaceAll(key, "[", ".["), ".") {
		next, problem := step(value, part)
		if problem != "" {
			return value, problem
		}
		value = next
	}
	return value, ""
}

// step goes down by one part of a key: a field, or a list position in brackets. An optional section that is absent comes
// into being, as a key below it was named.
func step(value reflect.Value, part string) (reflect.Value, string) {
	if value.Kind() == reflect.Pointer {
		if value.IsNil() {
			value.Set(reflect.New(value.Type().Elem()))
		}
		value = value.Elem()
	}
	switch {
	case isScalar(value.Type()):
		return value, "unknown key: the one above it holds a single value"
	case value.Kind() == reflect.Slice:
		i, err := strconv.Atoi(strings.Trim(part, "[]"))
		if err != nil || i < 0 || i >= value.Len() {
			return value, fmt.Sprintf("unknown key: the list above it has %d entries, counted from 0, and can be set as KEY=[...]", value.Len())
		}
		return value.Index(i), ""
	default:
		field, ok := fieldOf(value, part)
		if !ok {
			return value, unknownKey(value)
		}
		return field, ""
	}
}
