package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFileSize bounds a configuration file, in bytes. A file with a thousand upstreams has a third of it.
const maxFileSize = 1 << 20

// Load reads the file at path over the defaults, then applies sets, each KEY=VALUE, in their order. An empty path reads
// no file. What it returns is valid; a configuration that is not leads to an *Error with every problem of it.
func Load(path string, sets []string) (Config, error) {
	var content []byte
	if path != "" {
		var err error
		if content, err = readFile(path); err != nil {
			return Config{}, fmt.Errorf("read configuration: %w", err)
		}
	}
	return load(path, content, sets)
}

// readFile reads a file that must not be longer than maxFileSize.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileSize {
		return nil, fmt.Errorf("%s is longer than %d bytes: is it a configuration?", path, maxFileSize)
	}
	return content, nil
}

// load is Load on the content of a file.
func load(path string, content []byte, sets []string) (Config, error) {
	cfg := Default()
	d := &decoder{source: path, origins: map[string]Origin{}}
	d.file(content, &cfg)
	for _, assignment := range sets {
		d.set(assignment, &cfg)
	}
	cfg.complete()
	if err := asError(append(d.problems, d.news(cfg.problems())...)); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// news returns the problems of a decoded configuration that are not about what could not be decoded: there the defaults
// stand, and a fault found in them would send the reader to the wrong place.
func (d *decoder) news(found []Problem) []Problem {
	return slices.DeleteFunc(d.locate(found), func(p Problem) bool {
		return slices.ContainsFunc(d.problems, func(known Problem) bool {
			return strings.HasPrefix(p.Key, known.Key) || strings.HasPrefix(known.Key, p.Key)
		})
	})
}

// file decodes the content of a file into cfg.
func (d *decoder) file(content []byte, cfg *Config) {
	node, problem := parse(d.source, content)
	if problem != nil {
		d.problems = append(d.problems, *problem)
		return
	}
	if node != nil {
		d.decode("", node, reflect.ValueOf(cfg).Elem())
	}
}

// parse returns the syntax tree of content, nil when there is nothing in it. Duplicate keys pass: the decoder reports
// them with their path.
func parse(source string, content []byte) (ast.Node, *Problem) {
	file, err := parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxProblem(source, err)
	}
	var body ast.Node
	for _, document := range file.Docs {
		if document.Body == nil {
			continue
		}
		if body != nil {
			at := document.Body.GetToken().Position
			return nil, &Problem{Origin{source, at.Line, at.Column}, "", "a second document begins here: keep one"}
		}
		body = document.Body
	}
	return body, nil
}

// syntaxProblem takes message and position out of the parser's error, whose own text is a coloured excerpt.
func syntaxProblem(source string, err error) *Problem {
	var detail yaml.Error
	if !errors.As(err, &detail) || detail.GetToken() == nil {
		return &Problem{Origin: Origin{Source: source}, Message: "not YAML: " + err.Error()}
	}
	at := detail.GetToken().Position
	return &Problem{Origin{source, at.Line, at.Column}, "", "not YAML: " + detail.GetMessage()}
}

// complete fills in what an empty value stands for.
func (c *Config) complete() {
	if c.Cache.Dir == "" {
		c.Cache.Dir = defaultDir()
	}
	for i := range c.Upstreams {
		c.Upstreams[i] = c.Upstreams[i].Completed()
	}
}
