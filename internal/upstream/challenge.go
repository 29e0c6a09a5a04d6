package upstream

import "strings"

// The most that is read of what a server says about authentication. Real answers hold one or two challenges of a few
// hundred bytes.
const (
	maxChallengeText = 8 << 10
	maxChallenges    = 16
)

// challenge is one way to authenticate that a server offers (RFC 9110, section 11.6.1).
type challenge struct {
	scheme string            // lower case: "bearer", "basic", …
	params map[string]string // keys in lower case
}

// parseChallenges reads the WWW-Authenticate lines of an answer. What cannot be read ends its line; what came before
// counts.
func parseChallenges(lines []string) []challenge {
	var found []challenge
	for _, line := range lines {
		p := challengeParser{text: line[:min(len(line), maxChallengeText)]}
		p.line()
		found = append(found, p.found...)
	}
	return found[:min(len(found), maxChallenges)]
}

// findChallenge returns the first challenge of a scheme.
func findChallenge(challenges []challenge, scheme string) (challenge, bool) {
	for _, c := range challenges {
		if c.scheme == scheme {
			return c, true
		}
	}
	return challenge{}, false
}

// challengeParser walks over one line. The grammar is ambiguous until the character after a word is seen: a comma
// separates parameters of one challenge as well as challenges, and only "=" makes a word a parameter's name.
type challengeParser struct {
	text  string
	at    int
	found []challenge
}

func (p *challengeParser) line() {
	for {
		p.skip(" \t,")
		word := p.word()
		if word == "" {
			return
		}
		p.skip(" \t")
		if p.peek() != '=' {
			p.found = append(p.found, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
			p.skipToken68()
			continue
		}
		p.at++ // "="
		p.skip(" \t")
		value, ok := p.value()
		if !ok || len(p.found) == 0 {
			return
		}
		p.found[len(p.found)-1].set(word, value)
	}
}

// set keeps the first value of a parameter: a repeated one is malformed, and the first is what others see.
func (c challenge) set(key, value string) {
	key = strings.ToLower(key)
	if _, repeated := c.params[key]; !repeated {
		c.params[key] = value
	}
}

// skipToken68 passes over the other form of a challenge ("Negotiate YWJj=="): one word with trailing "=" and nothing
// after it.
func (p *challengeParser) skipToken68() {
	start := p.at
	for p.at < len(p.text) && (isTokenChar(p.text[p.at]) || p.text[p.at] == '/') {
		p.at++
	}
	words := p.at - start
	for p.peek() == '=' {
		p.at++
	}
	padding := p.at - start - words
	p.skip(" \t")
	ends := p.at == len(p.text) || p.peek() == ','
	// "Bearer realm=" at the end of a line would be a parameter without a value, which is as useless.
	if words == 0 || !ends || padding == 0 && strings.Contains(p.text[start:p.at], "=") {
		p.at = start
	}
}

func (p *challengeParser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *challengeParser) skip(set string) {
	for p.at < len(p.text) && strings.IndexByte(set, p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *challengeParser) word() string {
	start := p.at
	for p.at < len(p.text) && isTokenChar(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

// value reads a quoted string, or, more liberal than the grammar, everything up to a comma or blank: unquoted URLs are
// seen in the wild.
func (p *challengeParser) value() (string, bool) {
	if p.peek() == '"' {
		return p.quoted()
	}
	start := p.at
	for p.at < len(p.text) && strings.IndexByte(" \t,", p.text[p.at]) < 0 {
		p.at++
	}
	return p.text[start:p.at], p.at > start
}

func (p *challengeParser) quoted() (string, bool) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case '"':
			p.at++
			return b.String(), true
		case '\\':
			if p.at++; p.at < len(p.text) {
				b.WriteByte(p.text[p.at])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// isTokenChar reports whether c may stand in a token (RFC 9110, section 5.6.2).
func isTokenChar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
