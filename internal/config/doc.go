// Package config reads the configuration file: strictly, with a default for every key, and with errors that name file,
// line, column, key and remedy. It composes the Config types that the other packages own, so a setting has one home.
//
// The decoder is the package's own walk over the syntax tree of the file, for three reasons: it reports every problem
// of a file at once, it knows the path of each key, and it remembers where each key was written, so that a combination
// of keys that makes no sense is reported with a position too.
package config
