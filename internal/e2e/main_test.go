//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// shared holds what every scenario uses and none changes. It is the package's one variable, because TestMain has no
// other way to hand it on.
var shared *suite

func TestMain(m *testing.M) { os.Exit(runSuite(m)) }

// runSuite runs the tests and holds the suite itself to what it asks of the mirror: nothing is left behind.
func runSuite(m *testing.M) int {
	var err error
	if shared, err = newSuite(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: goroutines of the tests outlived them:", err)
		code = max(code, 1)
	}
	return code
}
