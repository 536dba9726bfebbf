package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
)

// Setup installs and updates what is in a database.
type Setup struct {
	Pool   *pgxpool.Pool
	Source official.Source
	Plain  bool // PGMQ comes as plain SQL, also where the server has the extension

	bundle *official.Bundle // what Source has, once that was asked for
}

// Confirm is shown a plan before it is run. An error ends it; nothing is changed then.
type Confirm func(Plan) error

// Install makes what is missing, and returns what was done. Nothing is changed if it fails.
func (s *Setup) Install(ctx context.Context, confirm Confirm) (Plan, error) {
	return s.run(ctx, confirm, false, planInstall)
}

// Upgrade is Install for a database that has PGMQ, which it updates.
func (s *Setup) Upgrade(ctx context.Context, confirm Confirm) (Plan, error) {
	return s.run(ctx, confirm, true, planUpgrade)
}

// run looks, plans, asks, and does it, for which it looks again under a lock: another one may have been faster.
func (s *Setup) run(ctx context.Context, confirm Confirm, updates bool, plan func(State, way) (Plan, error)) (Plan, error) {
	how := way{sql: s.Plain, bundle: func() (official.Bundle, error) {
		if s.bundle != nil {
			return *s.bundle, nil
		}
		bundle, err := s.Source.Bundle(ctx, updates)
		if err == nil {
			s.bundle = &bundle
		}
		return bundle, err
	}}
	state, err := look(ctx, s.Pool)
	if err != nil {
		return Plan{}, explain(err)
	}
	shown, err := plan(state, how)
	if err == nil {
		err = confirm(shown)
	}
	if err != nil || len(shown.Steps) == 0 {
		return shown, err
	}
	done := shown
	err = pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Conn().PgConn().Exec(ctx, lockSQL).ReadAll(); err != nil {
			return err
		}
		now, err := look(ctx, tx)
		if err != nil {
			return err
		}
		if done, err = plan(now, how); err != nil {
			return err
		}
		if len(done.Steps) > 0 && !slices.Equal(titles(done), titles(shown)) {
			return errors.New("the database was changed meanwhile, and something else is to be done than was shown: run the command again")
		}
		return runSteps(ctx, tx, done.Steps)
	})
	return done, explain(err)
}

// lockSQL has those that install at once wait for each other. Any role that may log in can take the lock, so it is not
// waited for without end.
const lockSQL = "set local lock_timeout = '30s'; set local statement_timeout = '10min'; set local client_min_messages = 'warning';" +
	" select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('ezq install'::text, 0))"

func titles(p Plan) (all []string) {
	for _, step := range p.Steps {
		all = append(all, step.Title)
	}
	return all
}

// runSteps runs steps in a transaction, and looks whether PGMQ is there then.
func runSteps(ctx context.Context, tx pgx.Tx, steps []Step) error {
	for _, step := range steps {
		if _, err := tx.Conn().PgConn().Exec(ctx, step.SQL).ReadAll(); err != nil {
			return fmt.Errorf("%s: %w", step.Title, err)
		}
	}
	after, err := look(ctx, tx)
	if err == nil && !after.Installed {
		err = errors.New("the SQL has run, and there is no function pgmq.create: it is not PGMQ's")
	}
	return err
}

// explain returns err with what is to be done. Nothing was changed, unless it says otherwise.
func explain(err error) error {
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &connect):
		return errors.New("the database cannot be reached") // the error has the password
	case errors.As(err, &pg):
		return fmt.Errorf("%w; nothing was changed%s", err, remedy(pg))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: nothing was changed, unless the server was about to commit; run the command again, which says what is there", err)
	case pgconn.Timeout(err), errors.Is(err, pgconn.ErrConnClosed):
		return errors.New("the connection broke, and whether the server has committed is not known: run the command again, which says what is there")
	}
	return err
}

func remedy(pg *pgconn.PgError) string {
	switch pg.Code {
	case "42501": // insufficient_privilege
		return ": connect as the owner of the database, or as a superuser"
	case "25006": // read_only_sql_transaction
		return ": the server takes no writes: connect to the primary"
	case "55P03": // lock_not_available
		return ": another session has locked what is needed: another ezq install that runs, or a transaction that uses the queues," +
			" which select pid, relation::regclass, mode from pg_locks where granted shows; try again"
	case "57014": // query_canceled
		return ": look at statement_timeout"
	case "53100": // disk_full
		return ": free disk space on the database server"
	case "58P01": // undefined_file
		return ": the server's package of the extension pgmq is damaged: install it again, or take --plain"
	case "08P01", "0A000": // as a pooler says in statement mode
		return ": behind a pooler in statement mode no transaction is possible: connect to PostgreSQL itself"
	}
	return ""
}
