package command

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/cmd/ezq/internal/devserver"
)

// outputOf runs ezq on a database, and hides what differs from run to run.
func outputOf(t *testing.T, database string, args ...string) (code int, out, errOut string) {
	t.Helper()
	return outputOn(t, map[string]string{"EZQ_DATABASE_URL": database}, "", args...)
}

// outputOn runs ezq with these environment variables, and with this on its standard input.
func outputOn(t *testing.T, variables map[string]string, in string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e strings.Builder
	code = Run(t.Context(), args, Process{In: strings.NewReader(in), Out: &o, Err: &e, Lookup: lookupIn(variables)})
	text := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`).ReplaceAllString(o.String(), "TIME")
	text = regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`).ReplaceAllString(text, "UUID")
	text = regexp.MustCompile(`\b[\d.]+m?s\b`).ReplaceAllString(text, "AGE")
	return code, regexp.MustCompile(` +`).ReplaceAllString(text, " "), e.String()
}

func lookupIn(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

func TestVersion_IsPrinted(t *testing.T) {
	t.Parallel()
	code, out, errOut := outputOf(t, "", "version")
	require.Zero(t, code, errOut)
	require.Regexp(t, `^ezq \S+\n$`, out)
	code, out, _ = outputOf(t, "", "version", "--json")
	require.Zero(t, code)
	require.Regexp(t, `^\{\n "version": ".+",\n "go": "go1\..*"\n\}\n$`, out)
}

// runTask runs a command that has this task, and returns its exit code, and what it has written to Err.
func runTask(t *testing.T, ctx context.Context, args []string, long bool, tasks task) (code int, errOut string) {
	t.Helper()
	var e strings.Builder
	s := newSession(Process{Out: &strings.Builder{}, Err: &e, Lookup: lookupIn(nil)})
	root := newRoot(s)
	cmd := newVersion(s)
	cmd.Use = "try"
	if long {
		s.runsOn(cmd, tasks)
	} else {
		s.runs(cmd, tasks)
	}
	root.AddCommand(cmd)
	return execute(ctx, root, s, append([]string{"try"}, args...)), e.String()
}

func TestExitCode_SaysHowItEnded(t *testing.T) {
	t.Parallel()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	waits := func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() }
	child := &childError{name: "sh", err: exec.Command("sh", "-c", "exit 7").Run()}
	for name, test := range map[string]struct {
		ctx     context.Context
		args    []string
		long    bool
		task    task
		code    int
		printed string
	}{
		"done":              {t.Context(), nil, false, func(context.Context, []string) error { return nil }, exitDone, `^$`},
		"not done":          {t.Context(), nil, false, func(context.Context, []string) error { return errors.Join(errors.New("a"), errors.New("b\x1b[2J")) }, exitFailed, `^ezq: a\nezq: b \[2J\n$`},
		"called wrongly":    {t.Context(), nil, false, func(context.Context, []string) error { return wrong("no") }, exitUsage, `(?s)^Usage:\n  ezq try .*\n\nezq: no\n$`},
		"no such flag":      {t.Context(), []string{"--nonsense"}, false, waits, exitUsage, `(?s)^Usage:\n  ezq try .*\n\nezq: unknown flag: --nonsense\n$`},
		"timed out":         {t.Context(), []string{"--timeout", "1ms"}, false, waits, exitTimeout, `ezq: it ended after 1ms: if the server is healthy, allow more time, as with --timeout 10m\n$`},
		"long, timed out":   {t.Context(), []string{"--timeout=1ms"}, true, waits, exitTimeout, `after 1ms`},
		"interrupted":       {stopped, nil, false, waits, exitFailed, `^ezq: context canceled\n$`},
		"long, interrupted": {stopped, nil, true, waits, exitDone, `^$`},
		"command of dev":    {stopped, nil, true, func(ctx context.Context, _ []string) error { return errors.Join(child, ctx.Err()) }, 7, `^ezq: sh: exit status 7\n$`},
		"server stays": {stopped, nil, true, func(ctx context.Context, _ []string) error {
			return errors.Join(ctx.Err(), &devserver.RemainsError{Err: errors.New("no")})
		}, exitFailed, `^ezq: the server is not removed`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, errOut := runTask(t, test.ctx, test.args, test.long, test.task)
			require.Equal(t, test.code, code)
			require.Regexp(t, test.printed, errOut)
		})
	}
}

func TestTimeout_IsAMinuteUnlessTheCommandGoesOn(t *testing.T) {
	t.Parallel()
	for _, long := range []bool{false, true} {
		_, _ = runTask(t, t.Context(), nil, long, func(ctx context.Context, _ []string) error {
			ends, ok := ctx.Deadline()
			require.Equal(t, !long, ok)
			if ok {
				require.WithinDuration(t, time.Now().Add(time.Minute), ends, 30*time.Second)
			}
			return nil
		})
	}
}

func TestDatabase_IsNamedWhereNoVariableSaysWhere(t *testing.T) {
	t.Parallel()
	for variables, want := range map[string]string{
		"":                   `^EZQ_DATABASE_URL is not set, and no PGHOST, PGSERVICE or the like: set it to postgres://`,
		"EZQ_DATABASE_URL= ": `^EZQ_DATABASE_URL is not set`,
		"EZQ_DATABASE_URL=postgress://u:hunter2@h:5432/db?sslmode=disable": `^ezqenv: EZQ_DATABASE_URL .*: set it to postgres://`,
		"EZQ_DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/db":             `no connection to PostgreSQL`,
		"EZQ_QUEUE_PORT=x": `^ezqenv: EZQ_QUEUE_PORT is not a number`,
	} {
		name, value, _ := strings.Cut(variables, "=")
		s := newSession(Process{Lookup: lookupIn(map[string]string{name: value, "EZQ_LEASE": "that is for services"})})
		_, err := s.client(t.Context())
		require.Error(t, err, variables)
		require.Regexp(t, want, err.Error())
		require.NotContains(t, err.Error(), "hunter2")
	}
}
