// The command ezq-pgmq is for operators: it shows how the queues of a database are doing, which
// messages were dead-lettered and why, and redrives, edits and deletes these. It pauses and resumes topics.
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

//nolint:gosec // the password in the URL is an example
const usage = `ezq-pgmq shows and repairs the queues of a PostgreSQL database.

  ezq-pgmq queues              how many messages wait in each queue, and for how long;
                               DEAD LETTERS are those of the topic, which its groups share;
                               and which topics are paused
  ezq-pgmq pause TOPIC         stop the consumers of TOPIC, in all processes, until resume;
                               handlers that run go on, and so do publishers
      -reason TEXT             why, which the consumers log
      -by NAME                 who, if it is not the user of this machine
      -for 1h                  for an hour, and not until resume
      -group GROUP             only the consumers of that group
  ezq-pgmq resume TOPIC        let them go on
      -group GROUP             only the consumers of that group
  ezq-pgmq dead TOPIC          the dead letters, with their reasons
      -max N                   show at most N dead letters, the oldest first (20)
      -after ROW               those behind that one
      -payload                 with their payloads, each up to 64 KiB
      -payload-limit N         up to N bytes
      -json                    as JSON, with all that they have if that is no more than
                               -payload-limit: for edit-dead, and for tests with ezqtest
      -count                   how many there are of each topic, handler, event and reason, in
                               which a # stands for a number
      -from TOPIC              only those that came from TOPIC; may be given several times
  ezq-pgmq redrive TOPIC       move dead letters back to where they came from: to the
                               queue of TOPIC, or those of its groups
      -max N                   at most N, the oldest first (10)
      -all                     all that there are now
      -show                    only show where they would go
      -from TOPIC              those that came from TOPIC instead; may be given several times
  ezq-pgmq purge-dead TOPIC    delete dead letters for good, and nothing else that is there
      -yes                     really delete them; without -yes they are only counted
      -from TOPIC              those that came from TOPIC instead; may be given several times
      -strays                  all that is there, whatever it is
  ezq-pgmq edit-dead TOPIC     replace the payload of a dead letter; redrive it afterwards
      -file FILE               what dead -json has shown, with another "payload"
      -by NAME                 who, if it is not the user of this machine: the event keeps that

dead, redrive and purge-dead take all dead letters, or those for which all of these match:
      -row N                   those rows, as dead shows them; may be given several times
      -id ID  -handler NAME  -event NAME  -group GROUP  -header NAME=VALUE
      -reason TEXT             a part of the reason, in which a # stands for a number too
      -older 24h  -newer 1h    those that were dead-lettered before then, or since

The dead letters of TOPIC are in TOPIC_dead; TOPIC_dead itself may be named too. If they are
somewhere else, as middleware.Poison{Topic: "elsewhere"} says, name that with -in elsewhere in
the place of TOPIC, and the topics that they came from with -from.

Flags come after the command. With -timeout 10m it may take ten minutes; by default it ends
after one. What it has done by then stays done. It exits with 0 if all was done, 1 if something
was not, with the reason, 2 if it was called wrongly, and 3 if it ended after -timeout.

The database is that of EZQ_DATABASE_URL, as in postgres://user:password@host:5432/database
`

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
		_, _ = io.WriteString(out, usage)
		return exitDone
	case err != nil:
		_, _ = fmt.Fprintf(errOut, "%s\nezq-pgmq: %v\n", usage, err) // a terminal shows what comes last
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
