package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"

	"mirror/internal/units"
)

// isScalar tells whether a type is written as one word: text, a number, true or false, a size, a rate, a duration.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	default:
		return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	}
}

// wanted names the kind of value that a type is written as.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 30s, 5m or 168h"
	case reflect.TypeFor[units.Bytes]():
		return "a size such as 512MiB or 50GiB"
	case reflect.TypeFor[units.Rate]():
		return "a rate such as 200MiB/s, or 0 for none"
	}
	switch t.Kind() {
	case reflect.String:
		return "text (in quotes, when it looks like something else)"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Pointer:
		return "a mapping of keys to values"
	default:
		return "a whole number"
	}
}

// scalar decodes a single word.
func (d *decoder) scalar(key string, node ast.Node, into reflect.Value) {
	text, ok := textOf(node)
	if !ok || !fits(node, into.Kind()) || setText(into, text) != nil {
		d.mismatch(key, node, into.Type())
	}
}

// fits tells whether YAML's own idea of a value goes with the kind of its key. Text must be written as text: a user name
// of 0123 would else lose its zero. Numbers and truths must not be. Sizes, rates and durations are read from either.
func fits(node ast.Node, kind reflect.Kind) bool {
	text := node.Type() == ast.StringType || node.Type() == ast.LiteralType
	switch kind {
	case reflect.String:
		return text
	case reflect.Bool, reflect.Int:
		return !text
	default:
		return true
	}
}

// textOf returns a scalar as it was written, without its quotes.
func textOf(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

// describe says what node holds, for the first half of "got ..., want ...". Only text has quotes.
func describe(node ast.Node) string {
	text, ok := textOf(node)
	if ok && fits(node, reflect.String) {
		return strconv.Quote(text)
	}
	if ok {
		return text
	}
	switch node.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a mapping"
	default:
		return "something else"
	}
}

// setText stores text in a value for which isScalar holds.
func setText(into reflect.Value, text string) error {
	if u, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v := into.Addr().Interface().(type) {
	case *time.Duration:
		parsed, err := time.ParseDuration(text)
		*v = parsed
		return err
	case *bool:
		*v = text == "true"
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		return nil
	case *int:
		parsed, err := strconv.Atoi(text)
		*v = parsed
		return err
	default:
		into.SetString(text)
		return nil
	}
}
