package upstream

import (
	"fmt"
	"math"
	"regexp"
	"time"
)

// Freshness says how long what an upstream said about a tag is believed.
type Freshness struct {
	// FreshFor is how long a tag is served without asking. Zero means that it is checked each time.
	FreshFor time.Duration `yaml:"fresh_for"`
	// StaleFor is how long after its last check a tag or list may still be served when the upstream does not answer. Zero means
	// never.
	StaleFor time.Duration `yaml:"stale_for"`
	// MissingFor is how long an absent tag is taken to be absent without asking, and a refused one to be refused.
	MissingFor time.Duration `yaml:"missing_for"`
	// Rules are exceptions for some tags. The first that fits counts.
	Rules []TagRule `yaml:"rules"`
}

// Inherit stands for a duration that a TagRule leaves as it is for the whole upstream.
const Inherit time.Duration = math.MinInt64

// TagRule says how long some tags are believed. DefaultTagRule returns one that changes nothing.
type TagRule struct {
	// Tags lists patterns of the tags that are meant; empty means all. "*" stands for any characters, "?" for one.
	Tags []string `yaml:"tags"`
	// Repositories lists patterns of the repositories whose tags are meant, written as in Config.Allow; empty means all.
	Repositories []string `yaml:"repositories"`
	// FreshFor is as in Freshness, or Inherit.
	FreshFor time.Duration `yaml:"fresh_for"`
	// StaleFor is as in Freshness, or Inherit.
	StaleFor time.Duration `yaml:"stale_for"`
	// MissingFor is as in Freshness, or Inherit.
	MissingFor time.Duration `yaml:"missing_for"`
}

// DefaultTagRule returns a rule that says nothing yet.
func DefaultTagRule() TagRule {
	return TagRule{FreshFor: Inherit, StaleFor: Inherit, MissingFor: Inherit}
}

// duration is one of the values of a Freshness or TagRule, with its key.
type duration struct {
	key   string
	value time.Duration
}

func (f Freshness) durations() []duration {
	return []duration{{"fresh_for", f.FreshFor}, {"stale_for", f.StaleFor}, {"missing_for", f.MissingFor}}
}

func (t TagRule) durations() []duration {
	return t.over(Freshness{}).durations()
}

func (f Freshness) validate(fault faultFunc) {
	validateDurations("tags.", f.durations(), fault)
	for i, rule := range f.Rules {
		rule.validate(fmt.Sprintf("tags.rules[%d]", i), fault)
	}
}

func (t TagRule) validate(key string, fault faultFunc) {
	if len(t.Tags)+len(t.Repositories) == 0 {
		fault(key, "is for all tags of all repositories: write tags or repositories, or move its values to tags of the upstream")
	}
	if t.FreshFor == Inherit && t.StaleFor == Inherit && t.MissingFor == Inherit {
		fault(key, "changes nothing: write fresh_for, stale_for or missing_for")
	}
	validatePatterns(key+".tags", t.Tags, compileTagGlob, fault)
	validateGlobs(key+".repositories", t.Repositories, fault)
	validateDurations(key+".", t.durations(), fault)
}

func validateDurations(section string, durations []duration, fault faultFunc) {
	for _, d := range durations {
		if d.value < 0 {
			fault(section+d.key, "%v is negative: write a duration such as 1m", d.value)
		}
	}
}

// tagRule is a TagRule that is ready to be applied.
type tagRule struct {
	tags, repositories []*regexp.Regexp
	freshness          Freshness
}

// compileTagRules prepares the rules of an upstream. What a rule leaves open is filled in from base.
func compileTagRules(base Freshness) (compiled []tagRule, err error) {
	for _, rule := range base.Rules {
		c := tagRule{freshness: rule.over(base)}
		if c.tags, err = compileAll(rule.Tags, compileTagGlob); err != nil {
			return nil, err
		}
		if c.repositories, err = compileAll(rule.Repositories, compileGlob); err != nil {
			return nil, err
		}
		compiled = append(compiled, c)
	}
	return compiled, nil
}

// over returns base with what the rule changes.
func (t TagRule) over(base Freshness) Freshness {
	return Freshness{
		FreshFor:   inherited(t.FreshFor, base.FreshFor),
		StaleFor:   inherited(t.StaleFor, base.StaleFor),
		MissingFor: inherited(t.MissingFor, base.MissingFor),
	}
}

func inherited(own, base time.Duration) time.Duration {
	if own == Inherit {
		return base
	}
	return own
}

func (t *tagRule) fits(name, tag string) bool {
	return (len(t.tags) == 0 || matchesAny(t.tags, tag)) && (len(t.repositories) == 0 || matchesAny(t.repositories, name))
}

// Freshness returns how long what this registry says is believed, apart from tags that a rule is for.
func (r *Registry) Freshness() Freshness { return r.config.Tags }

// TagFreshness returns how long a tag of a repository is believed.
func (r *Registry) TagFreshness(name, tag string) Freshness {
	for i := range r.tagRules {
		if r.tagRules[i].fits(name, tag) {
			return r.tagRules[i].freshness
		}
	}
	return r.config.Tags
}
