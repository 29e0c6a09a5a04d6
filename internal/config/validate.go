package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"mirror/internal/cache"
	"mirror/internal/units"
	"mirror/internal/upstream"
)

// minCacheSize is the smallest disk tier in bytes that makes sense: four manifests of the greatest length (4 MiB).
const minCacheSize = 16 * units.MiB

// Validate reports everything that is wrong with c as one *Error. It opens no file and no connection.
func (c Config) Validate() error { return asError(c.problems()) }

// problems lists what is wrong, without the places where the keys were written.
func (c Config) problems() []Problem {
	return slices.Concat(
		c.keyed("server.", c.Server.Validate()),
		c.keyed("admin.", c.Admin.Validate()),
		c.cacheProblems(),
		c.upstreamProblems(),
		c.addressProblems(),
		c.keyed("peers.", c.Peers.Validate()),
		c.Log.problems(),
	)
}

func (c Config) cacheProblems() []Problem {
	var found []Problem
	if c.Cache.Dir == "" {
		found = append(found, problem("cache.dir", "there is no home directory to put it into: name a directory"))
	}
	if c.Cache.MaxSize < minCacheSize {
		found = append(found, problem("cache.max_size", "got %v, want at least %v", c.Cache.MaxSize, minCacheSize))
	}
	if c.Cache.Sync != cache.SyncAlways && c.Cache.Sync != cache.SyncLazy {
		found = append(found, problem("cache.sync", "got %q, want %s or %s", c.Cache.Sync, cache.SyncAlways, cache.SyncLazy))
	}
	if memory := c.Cache.Memory; memory.MaxSize > 0 && memory.MaxBlob > memory.MaxSize {
		found = append(found, problem("cache.memory.max_blob", "got %v, want at most cache.memory.max_size (%v)", memory.MaxBlob, memory.MaxSize))
	}
	return found
}

func (c Config) upstreamProblems() []Problem {
	if len(c.Upstreams) == 0 {
		return []Problem{problem("upstreams", "the list is empty: name a registry, or leave the key out for the public ones")}
	}
	return c.keyed("", upstream.ValidateAll(c.Upstreams))
}

func (l Log) problems() []Problem {
	var found []Problem
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		found = append(found, problem("log.level", "got %q, want debug, info, warn or error", l.Level))
	}
	if !slices.Contains([]string{"text", "json"}, l.Format) {
		found = append(found, problem("log.format", "got %q, want text or json", l.Format))
	}
	return found
}

func problem(key, format string, args ...any) Problem {
	return Problem{Key: key, Message: fmt.Sprintf(format, args...)}
}

// leadingKey matches the key that begins an error of another package's Validate.
var leadingKey = regexp.MustCompile(`^([a-z_]+(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*):? `)

// keyed turns the joined errors of another package's Validate into problems. Each of those begins with its key,
// relative to the section that the package owns; that is the convention between the packages and this one, which
// saves a type that all of them would have to share.
func (c Config) keyed(section string, err error) []Problem {
	var found []Problem
	for _, err := range flatten(err) {
		text := err.Error()
		key := strings.TrimSuffix(section, ".")
		if match := leadingKey.FindStringSubmatch(text); match != nil && c.has(section+match[1]) {
			key, text = section+match[1], text[len(match[0]):]
		}
		found = append(found, Problem{Key: key, Message: text})
	}
	return found
}

// has tells whether there is such a key.
func (c Config) has(key string) bool {
	_, problem := find(reflect.ValueOf(c), key)
	return problem == ""
}

// flatten lists the leaves of joined errors.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var leaves []error
	for _, part := range joined.Unwrap() {
		leaves = append(leaves, flatten(part)...)
	}
	return leaves
}

// locate adds to each problem the place where its key was written, or the nearest key above it.
func (d *decoder) locate(problems []Problem) []Problem {
	for i := range problems {
		for key := problems[i].Key; key != ""; key = parent(key) {
			if origin, ok := d.origins[key]; ok {
				problems[i].Origin = origin
				break
			}
		}
	}
	return problems
}

// parent is the path of the key above, empty at the top.
func parent(key string) string {
	return key[:max(0, strings.LastIndexAny(key, ".["))]
}
