package command

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/connection"
	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
	"github.com/ezq-go/ezq/cmd/ezq/internal/setup"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

const aboutSource = `PGMQ's SQL is not a part of this command. Without the extension it is that of PGMQ ` + "%s" + `, from its npm package,
which is fetched from the registry that npm_config_registry names, through the proxy of HTTPS_PROXY, and compared with
a checksum that is compiled in. It is kept in the user's directory of caches.`

// sourceFlags are where PGMQ's SQL is from.
type sourceFlags struct{ file, url, sha256 string }

func (f *sourceFlags) define(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "file", "", "take PGMQ's SQL from this file: pgmq--VERSION.sql, or the npm package")
	flags.StringVar(&f.url, "url", "", "take PGMQ's SQL from this address: as --file")
	flags.StringVar(&f.sha256, "sha256", "", "the SHA-256 of --file or --url, if that is another version of PGMQ than this command knows")
}

func (f *sourceFlags) source(s *session) official.Source {
	return official.Source{
		Release: official.Pinned(), File: f.file, URL: f.url, SHA256: f.sha256, Fetcher: official.NewFetcher(s.Lookup),
	}
}

// consent is how a plan is agreed to.
type consent struct {
	yes, dryRun bool
	agreed      bool // a plan with steps was agreed to
}

func (c *consent) define(flags *pflag.FlagSet) {
	flags.BoolVar(&c.yes, "yes", false, "do not ask")
	flags.BoolVar(&c.dryRun, "dry-run", false, "only say what would be done")
}

// setupTimeout is how long it may take to change what is in a database, with the time to fetch it and to ask.
const setupTimeout = 15 * time.Minute

// errDryRun ends what would only be shown.
var errDryRun = errors.New("this was a dry run")

// ask asks whether to do what was shown.
func (c *consent) ask(ctx context.Context, s *session) error {
	switch {
	case c.dryRun:
		return errDryRun
	case c.yes:
		return nil
	case !terminal.Is(s.In):
		return errors.New("nothing was changed, since this is no terminal to ask on: add --yes, or --dry-run")
	}
	s.printf("go on? [y/N] ")
	answer := make(chan string, 1)
	go func() { // which a signal does not end
		line, _ := bufio.NewReader(s.In).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case given := <-answer:
		switch given {
		case "y", "yes":
			return nil
		case "":
			return errors.New("nothing was changed: without an answer of y nothing is; --yes is that answer")
		}
		return errors.New("nothing was changed, as you wished")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// showPlan is the setup.Confirm of a command.
func (c *consent) showPlan(ctx context.Context, s *session) setup.Confirm {
	return func(p setup.Plan) error {
		for _, note := range p.Notes {
			s.printf("note: %s\n", terminal.SingleLine(note))
		}
		if len(p.Steps) == 0 {
			s.printf("nothing is to be done\n")
			return nil
		}
		s.printf("in one transaction:\n")
		for _, step := range p.Steps {
			s.printf("- %s\n", terminal.SingleLine(step.Title))
		}
		err := c.ask(ctx, s)
		c.agreed = err == nil
		return err
	}
}

// newSetup returns a setup for the database. A server that cannot be reached is an error with what to do.
func newSetup(ctx context.Context, s *session, source official.Source, plain bool) (*setup.Setup, error) {
	url, err := connection.URL(s.Lookup)
	if err != nil {
		return nil, err
	}
	client, err := pgmq.Open(ctx, url, nil)
	switch {
	case err == nil:
		_ = client.Close() // there is nothing in it
	case !errors.Is(err, pgmq.ErrNotInstalled) && !errors.Is(err, pgmq.ErrTooOld) && !errors.Is(err, pgmq.ErrPermission):
		return nil, err
	}
	pool, err := s.pool(ctx)
	return &setup.Setup{Pool: pool, Source: source, Plain: plain}, err
}

// finish says what became of a plan.
func (c *consent) finish(s *session, p setup.Plan, err error, done string) error {
	switch {
	case errors.Is(err, errDryRun):
		return nil
	case err != nil:
		return err
	}
	if len(p.Steps) > 0 {
		s.printf("%s\n", done)
	} else if c.agreed {
		s.printf("nothing was left to do: another one has done it meanwhile\n")
	}
	return nil
}

func newInstall(s *session) *cobra.Command {
	var from sourceFlags
	var agreed consent
	cmd := &cobra.Command{
		Use: "install", Short: "Put PGMQ, and what ezq adds to it, into the database", Args: none(),
		Long: `install puts PGMQ into the database: the extension, if the server has it, and its SQL otherwise. Then it creates what ezq
adds: the tables of IDs and pauses, and the queue of the schedules. What is there already stays as it is.

` + strings.Replace(aboutSource, "%s", official.Pinned().Version, 1) + `

All of it is one transaction: it is done as a whole, or not at all. Two that run at once wait for each other.`,
		Example: "ezq install --dry-run\nezq install --yes\nezq install --file pgmq--" + official.Pinned().Version + ".sql",
	}
	from.define(cmd.Flags())
	agreed.define(cmd.Flags())
	plain := cmd.Flags().Bool("plain", false, "install PGMQ as plain SQL, also where the server has the extension")
	s.runsWithin(cmd, setupTimeout, func(ctx context.Context, _ []string) error {
		up, err := newSetup(ctx, s, from.source(s), *plain)
		if err != nil {
			return err
		}
		p, err := up.Install(ctx, agreed.showPlan(ctx, s))
		return agreed.finish(s, p, err, "done; next: ezq init creates the queues of a service")
	})
	return cmd
}

func newUpgrade(s *session) *cobra.Command {
	var from sourceFlags
	var agreed consent
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Update PGMQ, and what ezq adds to it", Args: none(),
		Long: `upgrade updates the extension to the version that the server has. Where PGMQ was installed as plain SQL, it runs PGMQ's own
scripts from the version that is there to ` + official.Pinned().Version + `. Then it creates what ezq adds and is missing. It never installs an older
version. All of it is one transaction.

` + strings.Replace(aboutSource, "%s", official.Pinned().Version, 1),
	}
	from.define(cmd.Flags())
	agreed.define(cmd.Flags())
	s.runsWithin(cmd, setupTimeout, func(ctx context.Context, _ []string) error {
		up, err := newSetup(ctx, s, from.source(s), false)
		if err != nil {
			return err
		}
		p, err := up.Upgrade(ctx, agreed.showPlan(ctx, s))
		return agreed.finish(s, p, err, "done")
	})
	return cmd
}
