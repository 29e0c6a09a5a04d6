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
	return regexp.Compile(b.String())
}

// rules decides which repositories may be pulled.
type rules struct {
	allow, deny []*regexp.Regexp
}

func compileRules(allow, deny []string) (rules, error) {
	var r rules
	for _, group := range []struct {
		patterns []string
		into     *[]*regexp.Regexp
	}{{allow, &r.allow}, {deny, &r.deny}} {
		for _, pattern := range group.patterns {
			expression, err := compileGlob(pattern)
			if err != nil {
				return rules{}, err
			}
			*group.into = append(*group.into, expression)
		}
	}
	return r, nil
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
