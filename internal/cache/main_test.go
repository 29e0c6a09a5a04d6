package cache_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs a child of a crash test when it is one, else the tests.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir, os.Getenv(crashAt))
		return
	}
	if dir := os.Getenv(crashFill); dir != "" {
		fillingChild(dir)
		return
	}
	if dir := os.Getenv(indexLimit); dir != "" {
		limitedChild(dir, os.Getenv(indexEnd))
		return
	}
	goleak.VerifyTestMain(m)
}
