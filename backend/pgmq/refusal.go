package pgmq

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ezq-go/ezq/internal/subscription"
)

// settling is what becomes of a batch of acks and nacks.
type settling struct {
	found    ids
	acks     []subscription.Token
	acking   bool // the server has not answered yet,
	nacking  bool // nor this
	archives bool // an ack does more than to delete
}

// collect returns what reads the answer to a statement, which is under way until then.
func (s *settling) collect(underWay *bool) func(pgx.Rows) error {
	*underWay = true
	return func(rows pgx.Rows) error {
		err := s.found.collect(rows)
		*underWay = err != nil
		return err
	}
}

// refusal returns err as a [*subscription.Refusal], or nil if it is not one. What is wrong
// with the table, or what the role may do with it, is not the fault of any outcome, and
// may be mended. The archive is no condition for anything but acks.
func (s *settling) refusal(of *store, err error) error {
	cause := of.classify("settle", err)
	switch {
	case !isRefused(err) || !s.acking && !s.nacking:
		return nil
	case !isOfTheTable(err):
		return &subscription.Refusal{Cause: cause}
	case s.acking && s.archives:
		return &subscription.Refusal{Cause: cause, Of: s.acks}
	}
	return nil
}

// isRefused reports whether PostgreSQL has refused a statement for what it is: its values,
// a constraint, a trigger, a policy. It would again.
func isRefused(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || severity(pg) != "ERROR" || len(pg.Code) < 2 {
		return false
	}
	classes := []string{
		"09", "21", "22", "23", "27", "2F", "38", "39", "42", "44", "54", "P0",
	}
	return slices.Contains(classes, pg.Code[:2])
}

// isOfTheTable reports whether that would be so with any values: syntax error or access
// rule violation.
func isOfTheTable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code[:2] == "42"
}
