package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/cmd/ezq/internal/connection"
	"github.com/ezq-go/ezq/cmd/ezq/internal/devserver"
	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
	"github.com/ezq-go/ezq/cmd/ezq/internal/setup"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

func newDev(s *session) *cobra.Command {
	var from sourceFlags
	config := devserver.Config{Fetcher: official.NewFetcher(s.Lookup), Lookup: s.Lookup}
	cmd := &cobra.Command{
		Use: "dev [-- command…]", Short: "Start a private PostgreSQL with PGMQ, and take it away at the end",
		Long: `dev starts a PostgreSQL with PGMQ, and what ezq adds to it, on a free port of this machine. It prints the URL, and goes on
until Ctrl-C; or it runs a command with that URL in EZQ_DATABASE_URL, and ends with it, with its exit code. The server and
its data are gone then. If dev is killed, the next one removes what it has left.

PostgreSQL is the one that is installed, in the usual places or in EZQ_POSTGRES_BIN; else its programs from npm; else a
container of Docker. As root it runs in the name of the user postgres.

` + strings.Replace(aboutSource, "%s", official.Pinned().Version, 1),
		Example: "ezq dev\nezq dev -- go run .\nezq dev --with docker",
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&config.With, "with", "", "installed, npm or docker (default the first of these that can be had)")
	flags.IntVar(&config.Port, "port", 0, "the port, if no other program has it (default any that is free)")
	flags.StringVar(&config.Parent, "dir", "", "directory in which the server's own is created (default that of temporary files)")
	from.define(flags)
	s.runsOn(cmd, func(ctx context.Context, args []string) error { return dev(ctx, s, config, from, args) })
	return cmd
}

// dev runs a server until it is told to end, or until a command has ended.
func dev(ctx context.Context, s *session, config devserver.Config, from sourceFlags, args []string) (err error) {
	begun := false
	defer func() {
		if err != nil && len(args) > 0 && !begun && ctx.Err() != nil {
			err = errors.Join(err, &childError{name: args[0], err: errNotBegun})
		}
	}()
	config.Say = func(format string, args ...any) {
		_, _ = fmt.Fprintf(s.Err, "ezq: %s\n", terminal.SingleLine(fmt.Sprintf(format, args...)))
	}
	if !slices.Contains([]string{"", "installed", "npm", "docker"}, config.With) {
		return wrong("there is no way %q to start a server: choose installed, npm or docker with --with", config.With)
	}
	server, err := devserver.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Remove()) }()
	address, err := prepare(ctx, server, from.source(s))
	if err != nil {
		return err
	}
	if begun = true; len(args) > 0 {
		return runWith(ctx, s, address, args)
	}
	s.printf("%s\n", address)
	if err := s.printed.err(); err != nil {
		return err
	}
	config.Say("the server runs until Ctrl-C, and is gone then, with its data")
	<-ctx.Done()
	return nil
}

// prepare makes a database with PGMQ on a server, and returns its URL.
func prepare(ctx context.Context, server *devserver.Server, source official.Source) (string, error) {
	first, err := connection.Open(ctx, server.URL)
	if err != nil {
		return "", err
	}
	_, err = first.Exec(ctx, "create database ezq")
	connection.Close(first)
	if err != nil {
		return "", err
	}
	address := strings.Replace(server.URL, "/postgres?", "/ezq?", 1)
	pool, err := connection.Open(ctx, address)
	if err != nil {
		return "", err
	}
	defer connection.Close(pool)
	up := setup.Setup{Pool: pool, Source: source}
	_, err = up.Install(ctx, func(setup.Plan) error { return nil })
	return address, err
}

// endTimeout is how long a command has to end that was told to.
const endTimeout = 15 * time.Second

// runWith runs a command with the URL of a database.
func runWith(ctx context.Context, s *session, address string, args []string) error {
	command := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // what the user wants
	command.Env = append(os.Environ(), "EZQ_DATABASE_URL="+address)
	command.Stdin, command.Stdout, command.Stderr = s.In, s.printed.to, s.Err // a terminal stays one
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = endTimeout
	if !terminal.Is(s.In) && !terminal.Is(s.printed.to) && !terminal.Is(s.Err) { // else it may ask something there, which another group cannot
		end := asGroupOfProcesses(command)
		defer func() {
			if command.Process != nil && ctx.Err() != nil {
				end(endTimeout) // they may still need the server
			}
		}()
	}
	err := command.Run()
	switch {
	case command.Process == nil && ctx.Err() != nil:
		err = errNotBegun
	case err == nil:
		return nil
	case command.ProcessState != nil && command.ProcessState.Success() && ctx.Err() != nil: // it was told to end, and has
		return ctx.Err()
	}
	return &childError{name: args[0], err: err}
}
