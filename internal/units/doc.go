// Package units reads and writes sizes and rates as people write them: "10GiB", "200MiB/s". The types implement
// encoding.TextUnmarshaler, so that a configuration decoder understands them without this package knowing the decoder.
package units
