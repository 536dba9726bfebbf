// The command ezq installs PGMQ and what ezq adds to it, shows what is in the queues of a database,
// and repairs it. Run it without arguments for a list of what it can do.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ezq-go/ezq/cmd/ezq/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], command.Process{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Lookup: os.LookupEnv})
	stop()
	os.Exit(code)
}
