package upstream

import (
	"fmt"
	"regexp"
	"strings"
)

// globAlphabet is what a pattern may be written with: the characters of repository names and the wildcards.
const globAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789._-/*?"

// compileGlob turns a repository pattern into an expression that matches whole names: "*" within one component, "**"
// across components, "?" one character.
func compileGlob(pattern string) (*regexp.Regexp, error) {
	if pattern == "" || strings.Trim(pattern, globAlphabet) != "" {
		return nil, fmt.Errorf("%q is no repository pattern: write names in lower case with *, ** or ?, such as library/* or team/**", pattern)
	}
	return expressionOf(pattern), nil
}

// tagAlphabet is what a pattern of tags may be written with.
const tagAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*?"

// compileTagGlob turns a pattern of tags into an expression that matches whole tags.
func compileTagGlob(pattern string) (*regexp.Regexp, error) {
	if pattern == "" || strings.Trim(pattern, tagAlphabet) != "" {
		return nil, fmt.Errorf("%q is no pattern of tags: write tags with * or ?, such as v* or sha256-*", pattern)
	}
	return expressionOf(pattern), nil
}

// expressionOf translates a pattern that holds nothing but legal characters, for which there always is an expression.
func expressionOf(pattern string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for rest := pattern; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "**"):
			b.WriteString(".*")
			rest = rest[2:]
			continue
		case rest[0] == '*':
			b.WriteString("[^/]*")
		case rest[0] == '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(rest[:1]))
		}
		rest = rest[1:]
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}

// rules decides which repositories may be pulled.
type rules struct {
	allow, deny []*regexp.Regexp
}

func compileRules(allow, deny []string) (r rules, err error) {
	if r.allow, err = compileAll(allow, compileGlob); err != nil {
		return rules{}, err
	}
	if r.deny, err = compileAll(deny, compileGlob); err != nil {
		return rules{}, err
	}
	return r, nil
}

func compileAll(patterns []string, compile func(string) (*regexp.Regexp, error)) ([]*regexp.Regexp, error) {
	var compiled []*regexp.Regexp
	for _, pattern := range patterns {
		expression, err := compile(pattern)
		if err != nil {
			return nil, err
		}
		compiled = append(compiled, expression)
	}
	return compiled, nil
}

// allows reports whether name may be pulled: not denied, and allowed when there is a list of what is.
func (r rules) allows(name string) bool {
	if matchesAny(r.deny, name) {
		return false
	}
	return len(r.allow) == 0 || matchesAny(r.allow, name)
}

func matchesAny(expressions []*regexp.Regexp, name string) bool {
	for _, expression := range expressions {
		if expression.MatchString(name) {
			return true
		}
	}
	return false
}
