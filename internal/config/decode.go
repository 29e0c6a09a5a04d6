package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"mirror/internal/upstream"
)

// decoder fills a Config from the syntax tree of one source. It goes on after a problem, so that one run reports all.
type decoder struct {
	source   string
	problems []Problem
	// origins holds where each key was written, by its path. Later sources overwrite what they set.
	origins map[string]Origin
}

// decode puts node into the value that stands at key.
func (d *decoder) decode(key string, node ast.Node, into reflect.Value) {
	d.origins[key] = d.origin(node)
	switch {
	case isIndirect(node):
		d.report(key, node, "anchors, aliases and tags are not understood: write the value out")
	case isScalar(into.Type()):
		d.scalar(key, node, into)
	case into.Kind() == reflect.Slice:
		d.list(key, node, into)
	case into.Kind() == reflect.Pointer:
		d.optional(key, node, into)
	default:
		d.mapping(key, node, into)
	}
}

// mapping decodes the keys of a struct. A key without a value leaves the defaults in place.
func (d *decoder) mapping(key string, node ast.Node, into reflect.Value) {
	if node.Type() == ast.NullType {
		return
	}
	mapping, ok := node.(ast.MapNode)
	if !ok {
		d.mismatch(key, node, into.Type())
		return
	}
	seen := map[string]Origin{}
	for entries := mapping.MapRange(); entries.Next(); {
		d.entry(key, entries.KeyValue(), into, seen)
	}
}

// optional decodes a section that is absent unless it is written. A key without a value would leave it open which is
// meant.
func (d *decoder) optional(key string, node ast.Node, into reflect.Value) {
	if node.Type() == ast.NullType {
		d.report(key, node, "got nothing, want a mapping: write {} when everything is to be found automatically, or leave the key out")
		return
	}
	into.Set(reflect.New(into.Type().Elem()))
	d.mapping(key, node, into.Elem())
}

// entry decodes one key of a struct with its value.
func (d *decoder) entry(parent string, entry *ast.MappingValueNode, into reflect.Value, seen map[string]Origin) {
	name := entry.Key.GetToken().Value
	key := join(parent, name)
	field, ok := fieldOf(into, name)
	if !ok {
		d.report(key, entry.Key, unknownKey(into))
		return
	}
	if first, twice := seen[name]; twice {
		d.report(key, entry.Key, fmt.Sprintf("written twice, first at %s: keep one", first))
		return
	}
	seen[name] = d.origin(entry.Key)
	d.decode(key, entry.Value, field)
	d.origins[key] = d.origin(entry.Key)
}

// list decodes a sequence, which replaces what was there: the entries of two sources are never mixed.
func (d *decoder) list(key string, node ast.Node, into reflect.Value) {
	var items []ast.Node
	switch n := node.(type) {
	case *ast.NullNode:
	case *ast.SequenceNode:
		items = n.Values
	default:
		d.mismatch(key, node, into.Type())
		return
	}
	into.SetZero()
	for i, item := range items {
		into.Set(reflect.Append(into, entryOf(into.Type().Elem())))
		d.decode(fmt.Sprintf("%s[%d]", key, i), item, into.Index(i))
	}
}

// entryOf returns a list entry before its keys are read. An upstream and a rule for tags start with what a key that is
// left out means, so that an explicit zero is a zero.
func entryOf(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[upstream.Config]():
		return reflect.ValueOf(upstream.Defaults())
	case reflect.TypeFor[upstream.TagRule]():
		return reflect.ValueOf(upstream.DefaultTagRule())
	}
	return reflect.Zero(t)
}

// mismatch reports a value of the wrong kind.
func (d *decoder) mismatch(key string, node ast.Node, want reflect.Type) {
	d.report(key, node, fmt.Sprintf("got %s, want %s", describe(node), wanted(want)))
}

func (d *decoder) report(key string, node ast.Node, message string) {
	d.problems = append(d.problems, Problem{Origin: d.origin(node), Key: key, Message: message})
}

// origin is where node stands. A flag is its own place: positions inside its value would say nothing.
func (d *decoder) origin(node ast.Node) Origin {
	token := node.GetToken()
	if token == nil || strings.HasPrefix(d.source, setFlag) {
		return Origin{Source: d.source}
	}
	return Origin{Source: d.source, Line: token.Position.Line, Column: token.Position.Column}
}

// isIndirect tells whether the meaning of node stands elsewhere. Such values are refused because a reader of the file
// should see what applies where it applies.
func isIndirect(node ast.Node) bool {
	switch node.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType, ast.DirectiveType:
		return true
	default:
		return false
	}
}

// fieldOf returns the field of a struct that has this key.
func fieldOf(structure reflect.Value, name string) (reflect.Value, bool) {
	for i := range structure.NumField() {
		if keyOf(structure.Type().Field(i)) == name {
			return structure.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// unknownKey says which keys there are instead.
func unknownKey(structure reflect.Value) string {
	known := make([]string, structure.NumField())
	for i := range known {
		known[i] = keyOf(structure.Type().Field(i))
	}
	return "unknown key, want one of: " + strings.Join(known, ", ")
}

// keyOf is the key of a field: its yaml tag, which every field of a Config type has.
func keyOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return name
}

// join appends a part to the path of a key.
func join(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}
