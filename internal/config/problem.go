package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Error is everything that is wrong with a configuration, in the order of the file.
type Error struct {
	Problems []Problem
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Origin is where the key was written. Its zero value means that it stands nowhere: it is a default or missing.
	Origin Origin
	// Key is the path of the key: parts joined by dots, list positions in brackets, counted from 0. It is empty for a
	// file that could not be parsed.
	Key string
	// Message quotes what was found and says what would be right.
	Message string
}

// Origin is a place in a file, or a --set flag.
type Origin struct {
	// Source is the path of the file, or the flag with its value.
	Source string
	// Line and Column count from 1. They are 0 for a flag.
	Line, Column int
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// String returns "FILE:LINE:COLUMN: KEY: MESSAGE", without the parts that are not known.
func (p Problem) String() string {
	parts := []string{p.Origin.String(), p.Key, p.Message}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// String returns "FILE:LINE:COLUMN", the flag, or nothing.
func (o Origin) String() string {
	if o.Line == 0 {
		return o.Source
	}
	return fmt.Sprintf("%s:%d:%d", o.Source, o.Line, o.Column)
}

// asError returns nil when there is no problem. Problems that stand in a file come first, in the order of its lines.
func asError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Origin.rank(), b.Origin.rank()), cmp.Compare(a.Origin.Column, b.Origin.Column),
			cmp.Compare(a.Key, b.Key))
	})
	return &Error{Problems: problems}
}

// rank sorts lines of a file by number and everything else behind them.
func (o Origin) rank() int {
	if o.Line == 0 {
		return math.MaxInt
	}
	return o.Line
}
