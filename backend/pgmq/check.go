package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/hazard"
)

// Severity is how urgent a [Finding] is.
type Severity = backend.Severity

const (
	// SeverityNote is that of package backend.
	SeverityNote = backend.SeverityNote
	// SeverityWarning is that of package backend.
	SeverityWarning = backend.SeverityWarning
	// SeverityFailure is that of package backend.
	SeverityFailure = backend.SeverityFailure
)

// Finding is something that endangers queues: see [Client.Check].
type Finding = backend.Finding

var _ backend.Checker = (*Client)(nil)

// notChecked is the ID of a finding about a hazard that could not be looked for.
const notChecked = "not-checked"

// grantsRemedy is for what the role may not see.
const grantsRemedy = "let the owner of the queues look, or give the role the grants of docs/doctor.md"

// trustRemedy is for what is not read because it could run code.
const trustRemedy = "see untrusted-table, and look again when the table is trusted"

// checkup looks for hazards on one connection.
type checkup struct {
	conn         *pgxpool.Conn
	administered bool             // the owners of queues are trusted
	now          func() time.Time // of this machine
	mayRead      map[string]bool  // the tables of queues, archives and ezq: whether that runs no code of untrusted roles
	findings     []Finding
}

func (c *checkup) add(id string, severity Severity, remedy string, found ...hazard.Found) {
	for _, f := range found {
		finding := Finding{ID: id, Severity: severity, Object: fault.Visible(f.Object), Seen: fault.Visible(f.Seen), Remedy: remedy}
		if f.SQL == fault.Visible(f.SQL) { // otherwise it would be about something else
			finding.SQL = f.SQL
		}
		c.findings = append(c.findings, finding)
	}
}

// noteUnchecked notes that a hazard was not looked for, or not everywhere. It returns the error if there is no use in going on.
func (c *checkup) noteUnchecked(ctx context.Context, id string, err error) error {
	var seen, remedy string
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || c.conn.Conn().IsClosed() || !errors.As(err, new(*pgconn.PgError)):
		return err
	case fault.IsCode(err, "42501"):
		seen, remedy = "the role lacks a privilege", grantsRemedy
	case fault.IsCode(err, "57014"):
		seen, remedy = "it took too long", "look at a quiet time: each hazard is looked for during 5 seconds"
	case fault.IsCode(err, "55P03"):
		seen, remedy = "it was locked", "look again when the session is done that keeps a table locked"
	default:
		seen, remedy = fault.Classify("check", "", err).Error(), "see whether the tables of the schema pgmq are as PGMQ makes them"
	}
	c.unchecked(id, seen, remedy)
	return nil
}

// unchecked notes what was not looked at, and why.
func (c *checkup) unchecked(object, seen, remedy string) {
	c.add(notChecked, SeverityNote, remedy, hazard.Found{Object: object, Seen: seen})
}

// check looks for all hazards. What it has found comes with an error.
func check(ctx context.Context, pool *pgxpool.Pool, administered bool, now func() time.Time) ([]Finding, error) {
	conn, err := acquire(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	c := &checkup{conn: conn, administered: administered, now: now}
	err = c.run(ctx)
	slices.SortStableFunc(c.findings, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return c.findings, err
}

func (c *checkup) run(ctx context.Context) error {
	if err := catalog.CheckInstalled(ctx, c.conn); err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(e.Kind, ErrNotInstalled) && !errors.Is(e.Kind, ErrTooOld) {
			return err
		}
		c.add("not-installed", SeverityFailure, e.Remedy, hazard.Found{Object: "database", Seen: e.Cause.Error()})
		return nil
	}
	if err := c.session(ctx); err != nil {
		return err
	}
	if err := c.untrusted(ctx); err != nil {
		return err
	}
	queues, others, err := hazard.Queues(ctx, c.conn, c.mayRead)
	if err := c.noteUnchecked(ctx, "queues", err); err != nil {
		return err
	}
	if len(others) > 0 {
		c.unchecked("events", fmt.Sprintf("those of %d queues may not be read, or have other columns, row security or code of their owners, %s among them", len(others), others[0]), grantsRemedy)
	}
	for _, h := range hazard.All() {
		if read, known := c.mayRead[h.Needs]; h.Needs != "" && !read {
			if known {
				c.unchecked(h.ID, "the table "+h.Needs+" may run code of others", trustRemedy)
			}
			continue
		}
		found, err := h.Look(ctx, c.conn, queues)
		c.add(h.ID, Severity(h.Severity), h.Remedy, found...)
		if err := c.noteUnchecked(ctx, h.ID, err); err != nil {
			return err
		}
	}
	return nil
}

// maxSkew is how far the clocks of this machine and of PostgreSQL may be apart.
const maxSkew = 5 * time.Second

// session looks at what only a connection can tell.
func (c *checkup) session(ctx context.Context) error {
	var now time.Time
	var process uint32
	var seesSessions bool
	before := c.now()
	const sql = "select pg_catalog.clock_timestamp(), pg_backend_pid(), pg_catalog.pg_has_role(current_user, 'pg_read_all_stats'::name, 'usage'::text)"
	if err := c.conn.QueryRow(ctx, sql).Scan(&now, &process, &seesSessions); err != nil {
		return err
	}
	if !seesSessions {
		c.unchecked("sessions", "those of other roles are hidden", grantsRemedy)
	}
	if skew := max(before.Sub(now), now.Sub(c.now())); skew > maxSkew {
		c.add("clock-skew", SeverityWarning, "synchronise the clocks: backend.SetDeliverAt and schedules take times of this machine for those of PostgreSQL",
			hazard.Found{Object: "server", Seen: fmt.Sprintf("its clock is %v from that of this machine", skew.Round(time.Second))})
	}
	if dial.IsBehindPooler(c.conn.Conn(), process) {
		c.add("pooler", SeverityNote, "give consumers a URL that leads to PostgreSQL itself, or to a pooler in session mode, if events are to arrive sooner than the PollInterval",
			hazard.Found{Object: "session", Seen: "a pooler is in between, which in transaction mode delivers no notifications"})
	}
	return nil
}

// untrusted looks for tables that would run code of roles that this one does not trust, and notes which others may be read.
func (c *checkup) untrusted(ctx context.Context) error {
	c.mayRead = map[string]bool{"pgmq.meta": true, "pgmq.topic_bindings": true} // whose owners are known from CheckInstalled
	tables, err := hazard.Tables(ctx, c.conn)
	if err != nil {
		return c.noteUnchecked(ctx, "untrusted-table", err)
	}
	for _, table := range tables {
		c.mayRead[table] = false
	}
	refused := map[string]error{}
	_, err = hazard.Split(ctx, c.conn, tables, func(tx pgx.Tx, some []string) error {
		return catalog.RefusedEach(ctx, tx, some, func(table string, found map[string]error) {
			maps.Copy(refused, found)
			c.mayRead[table] = len(found) == 0
		})
	})
	for _, table := range slices.Sorted(maps.Keys(refused)) {
		if e, ok := errors.AsType[*Error](refused[table]); ok && !c.administered {
			c.add("untrusted-table", SeverityFailure, e.Remedy, hazard.Found{Object: "table " + table, Seen: e.Cause.Error()})
		}
	}
	return c.noteUnchecked(ctx, "untrusted-table", err)
}
