package cache_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the child of the crash test when it is one (crash_test.go), else the tests.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}
