package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitOK     = 0
	exitFailed = 1 // it could not be done
	exitUsage  = 2 // the command line or the configuration is wrong
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var failure *failed
	if errors.As(err, &failure) {
		fmt.Fprintln(stderr, failure)
		return failure.code
	}
	fmt.Fprintf(stderr, "mirror: %v\nRun \"mirror help\" for the commands and their flags.\n", err)
	return exitUsage
}

// failed is an error of a command that was understood. Every other error of cobra's is a wrong command line.
type failed struct {
	code int
	err  error
}

func (f *failed) Error() string { return f.err.Error() }
func (f *failed) Unwrap() error { return f.err }

// newRoot assembles the commands.
func newRoot() *cobra.Command {
	logging := &loggingFlags{}
	root := &cobra.Command{
		Use:           "mirror",
		Short:         "A pull-through caching mirror for container images",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return logging.validate()
		},
	}
	logging.register(root.PersistentFlags())
	root.AddCommand(newServe(logging), newCheckConfig(logging), newVerify(logging), newVersion(),
		newStatus(logging), newList(logging), newRemove(logging), newPin(logging), newUnpin(logging))
	return root
}
