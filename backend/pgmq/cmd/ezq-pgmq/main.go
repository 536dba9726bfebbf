// The command ezq-pgmq is for operators: it shows how the queues of a database are doing, which
// messages were dead-lettered and why, and redrives, edits and deletes these. It looks for what endangers the queues,
// finds, cancels and reschedules single messages, and pauses and resumes topics and schedules.
//
//	export EZQ_DATABASE_URL=postgres://user:password@host:5432/database
//	go run github.com/ezq-go/ezq/backend/pgmq/cmd/ezq-pgmq@latest queues
//
// It consumes nothing and takes no leases. Run it without arguments for a list of what it can do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv("EZQ_DATABASE_URL"), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3
)

// run does what args say, and returns the exit code.
func run(ctx context.Context, args []string, url string, out, errOut io.Writer) int {
	c, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(out, usageOf(c.name))
		return exitDone
	case err != nil:
		_, _ = fmt.Fprintf(errOut, "%s\nezq-pgmq: %v\n", usageOf(c.name), err) // a terminal shows what comes last
		return exitUsage
	}
	limited, stop := context.WithTimeout(ctx, c.timeout)
	defer stop()
	err = c.run(limited, url, out)
	for line := range strings.Lines(textOf(err)) { // several failures have a line each
		_, _ = fmt.Fprintf(errOut, "ezq-pgmq: %s\n", singleLine(line))
	}
	switch {
	case err == nil:
		return exitDone
	case limited.Err() != nil && ctx.Err() == nil:
		_, _ = fmt.Fprintf(errOut, "ezq-pgmq: it ended after %v: if the server is healthy, allow more time, as with -timeout 10m\n", c.timeout)
		return exitTimeout
	}
	return exitFailed
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
