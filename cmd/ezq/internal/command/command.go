// Package command is the command line of ezq: a cobra.Command for each of its commands.
package command

import (
	"context"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Exit codes of all commands.
const (
	exitDone   = 0
	exitFailed = 1
)

// Run does what args say, and returns the exit code.
func Run(ctx context.Context, args []string, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	if err := root.ExecuteContext(ctx); err != nil {
		return exitFailed
	}
	return exitDone
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ezq",
		Short: "Install, see and steer the queues of a PostgreSQL database",
	}
	root.AddCommand(newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this command",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			_, err := io.WriteString(cmd.OutOrStdout(), "ezq "+version+"\n")
			return err
		},
	}
}
