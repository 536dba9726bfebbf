// Package command is the command line of ezq: a cobra.Command for each of its commands, and what they share.
//
// A command has a constructor, as newQueues is, which takes the session of the run. It defines its flags, and gives
// itself a task with session.runs or session.runsOn:
//
//	func newQueues(s *session) *cobra.Command {
//		cmd := &cobra.Command{Use: "queues", Short: "…", Args: none()}
//		asJSON := jsonFlag(cmd)
//		s.runs(cmd, func(ctx context.Context, _ []string) error {
//			client, err := s.client(ctx)
//			…
//		})
//		return cmd
//	}
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// Exit codes of all commands.
const (
	exitDone    = 0
	exitFailed  = 1 // something was not done
	exitUsage   = 2 // it was called wrongly
	exitTimeout = 3 // it ended after --timeout
)

// Run does what args say, and returns the exit code. Errors are lines in p.Err that begin with "ezq: ".
func Run(ctx context.Context, args []string, p Process) int {
	s := newSession(p)
	return execute(ctx, newRoot(s), s, args)
}

func execute(ctx context.Context, root *cobra.Command, s *session, args []string) int {
	defer s.close()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(ctx)
	err = withLost(err, s.printed.err())
	if err == nil {
		return exitDone
	}
	done, ok := errors.AsType[*taskError](err)
	if !ok || errors.As(done.err, new(*usageError)) { // cobra's own errors are about the arguments, too
		_, _ = fmt.Fprintf(s.Err, "Usage:\n  %s\nFor more, run %q.\n\n", cmd.UseLine(), cmd.CommandPath()+" --help") // a terminal shows what comes last
		printError(s.Err, err)
		return exitUsage
	}
	printError(s.Err, done.err)
	if done.timedOut {
		_, _ = fmt.Fprintf(s.Err, "ezq: it ended after %v: if the server is healthy, allow more time, as with --timeout 10m\n", s.timeout)
		return exitTimeout
	}
	if child, ok := errors.AsType[*childError](done.err); ok && !errors.Is(child, errNotBegun) {
		return child.code()
	}
	return exitFailed
}

// withLost returns err, which a command has ended with, and why not all was printed, if that was so.
func withLost(err, lost error) error {
	done, isTask := errors.AsType[*taskError](err)
	switch {
	case lost == nil:
		return err
	case err == nil, !isTask && errors.Is(err, lost): // cobra's own commands print, too
		return &taskError{err: lost}
	case isTask && !errors.Is(err, lost):
		return &taskError{err: errors.Join(done.err, lost), timedOut: done.timedOut}
	}
	return err
}

// printError gives each of several failures a line.
func printError(w io.Writer, err error) {
	for text := range strings.Lines(err.Error()) {
		if line := terminal.SingleLine(text); line != "" {
			_, _ = fmt.Fprintf(w, "ezq: %s\n", line)
		}
	}
}

func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{ //nolint:gosec // the password in the URL is an example
		Use:   "ezq",
		Short: "Install, see and steer the queues of a PostgreSQL database",
		Long: `ezq installs PGMQ and what ezq adds to it, shows what is in the queues of a database, and repairs it.

The database is that of EZQ_DATABASE_URL, as in postgres://user:password@host:5432/database, or else that of libpq's
variables: PGHOST, PGDATABASE, PGUSER, PGPASSWORD, PGSERVICE and the others. There is no flag for it: arguments are in
the list of processes, which all users of a machine can read, with the password.

A command exits with 0 if all was done, with 1 if something was not, with the reason, with 2 if it was called wrongly,
and with 3 if it ended after --timeout. What it has done by then stays done.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().Var(newDuration(&s.timeout), "timeout",
		"how long the command may take (default 1m; none for those that go on until they are stopped)")
	asGroup(root)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 116"))
	root.AddCommand(
		newInstall(s), newUpgrade(s), newInit(s), newGrants(s), newSQL(s), newDev(s),
		newQueues(s), newPeek(s), newTail(s), newPublish(s), newFind(s), newCancel(s), newReschedule(s),
		newDead(s), newPause(s), newResume(s), newSchedules(s), newDoctor(s), newConsole(s), newVersion(s),
	)
	return root
}
