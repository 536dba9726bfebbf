package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/connection"
	"github.com/ezq-go/ezq/cmd/ezq/internal/devserver"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// Process is what a command has of its process.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	// Lookup returns an environment variable, as os.LookupEnv does.
	Lookup func(name string) (value string, ok bool)
}

// defaultTimeout is how long a command may take: a server that answers byte by byte, or not at
// all, shall not keep it.
const defaultTimeout = time.Minute

// session is one run of the command.
type session struct {
	Process
	printed *output        // the Out of the Process, which this is in the place of
	style   terminal.Style // of Out
	timeout time.Duration  // 0 is that of the command
	name    string         // of its connections; "" is that of the command

	mu     sync.Mutex
	opened []func() // what closes it
}

func newSession(p Process) *session {
	s := &session{Process: p, printed: &output{to: p.Out}, style: terminal.StyleOf(p.Out, p.Lookup)}
	s.Out = s.printed
	return s
}

// task is what a command does, until ctx ends.
type task func(ctx context.Context, args []string) error

// runs gives cmd a task that is done soon.
func (s *session) runs(cmd *cobra.Command, t task) { s.runsWithin(cmd, defaultTimeout, t) }

// runsWithin gives cmd a task that may take so long, if --timeout does not say otherwise.
func (s *session) runsWithin(cmd *cobra.Command, timeout time.Duration, t task) {
	s.limits(cmd, func() time.Duration { return timeout }, t)
}

// runsOn gives cmd a task that goes on until the process is told to end, which is no failure, or until --timeout if that
// is given.
func (s *session) runsOn(cmd *cobra.Command, t task) {
	s.runsOnIf(cmd, func() bool { return true }, t)
}

// runsOnIf is runsOn if it is asked to go on, and else runs.
func (s *session) runsOnIf(cmd *cobra.Command, goesOn func() bool, t task) {
	within := func() time.Duration {
		if goesOn() {
			return 0
		}
		return defaultTimeout
	}
	s.limits(cmd, within, func(ctx context.Context, args []string) error {
		err := t(ctx, args)
		if cmd.Context().Err() != nil && goesOn() {
			return despiteEnd(err)
		}
		return err
	})
}

// despiteEnd returns what of err is a failure although the process was told to end: how a command that it has run has ended,
// and that a server stays.
func despiteEnd(err error) error {
	var left []error
	if child, ok := errors.AsType[*childError](err); ok {
		left = append(left, child)
	}
	if remains, ok := errors.AsType[*devserver.RemainsError](err); ok {
		left = append(left, remains)
	}
	return errors.Join(left...)
}

func (s *session) limits(cmd *cobra.Command, timeout func() time.Duration, t task) {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := cmd.Context(), func() {}
		if s.timeout == 0 {
			s.timeout = timeout()
		}
		if s.timeout > 0 {
			ctx, stop = context.WithTimeout(ctx, s.timeout)
		}
		defer stop()
		if err := t(ctx, args); err != nil {
			return &taskError{err: err, timedOut: ctx.Err() != nil && cmd.Context().Err() == nil}
		}
		return nil
	}
}

// taskError is what a task has failed with: all other errors are about the arguments.
type taskError struct {
	err      error
	timedOut bool
}

func (e *taskError) Error() string { return e.err.Error() }

func (e *taskError) Unwrap() error { return e.err }

// client connects to the database, and checks that PGMQ is there. The session closes it.
func (s *session) client(ctx context.Context) (*pgmq.Client, error) { return s.groupClient(ctx, "") }

// groupClient is client for the queues of a group of consumers.
func (s *session) groupClient(ctx context.Context, group string) (*pgmq.Client, error) {
	return s.open(ctx, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
}

// open is client with a configuration, but for the Logger, which is silent.
func (s *session) open(ctx context.Context, config *pgmq.Config) (*pgmq.Client, error) {
	config.Logger = slog.New(slog.DiscardHandler)
	url, err := connection.URL(s.Lookup)
	if err != nil {
		return nil, err
	}
	client, err := pgmq.Open(ctx, connection.Named(url, cmp.Or(s.name, "ezq-cli")), config)
	if errors.Is(err, pgmq.ErrNotInstalled) {
		return nil, fmt.Errorf("%w; ezq install does either", err)
	}
	if err != nil {
		return nil, err
	}
	s.closeLater(func() { _ = client.Close() }) // there is nothing in it
	return client, nil
}

// pool returns connections to the database, whether PGMQ is there or not. The session closes it.
func (s *session) pool(ctx context.Context) (*pgxpool.Pool, error) {
	url, err := connection.URL(s.Lookup)
	if err != nil {
		return nil, err
	}
	pool, err := connection.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	s.closeLater(func() { connection.Close(pool) })
	return pool, nil
}

func (s *session) closeLater(closes func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, closes)
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, closes := range s.opened {
		closes()
	}
	s.opened = nil
}

// printf writes to Out. What others may have written, as names and errors, goes through terminal.Printable or
// terminal.SingleLine before. An error makes the command fail, when it has ended.
func (s *session) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.Out, format, args...) }

// printLine writes v to Out, as JSON in one line, of which a terminal obeys nothing.
func (s *session) printLine(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s\n", terminal.JSON(text))
	return err
}

// printJSON writes v to Out, as JSON with a field in each line.
func (s *session) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s\n", terminal.JSON(text))
	return err
}
