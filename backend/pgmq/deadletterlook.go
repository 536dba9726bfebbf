package pgmq

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/deadletters"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/search"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/statement"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

var (
	//go:embed sql/dead_letters.sql
	deadLettersSQL string
	//go:embed sql/dead_letter_matches.sql
	deadLetterMatchesSQL string
)

// How many messages are looked at in one statement: few where few are asked for, and not so few that others among them
// make it many statements.
const (
	lookBatch    = 1000
	lookMinBatch = 100
)

// deadLetterLook looks at the messages of a dead-letter queue, in the order of their ids, for those that a selection chooses.
type deadLetterLook struct {
	pool    *pgxpool.Pool
	queue   string
	chosen  backend.DeadLetterSelection
	field   search.BodyField // of chosen
	only    []string         // the topics that they may have come from, if that is looked at here
	texts   []string         // what to read of those that are chosen, in SQL
	timeout time.Duration

	slow  bool // a statement took too long, and now only rows are read that are read fast
	large bool // rows were left out for their size
}

// seen is a message that was looked at.
type seen struct {
	id       int64
	chosen   *bool // nil if it was left out
	due      bool
	enqueued time.Time
	texts    []string // if it is chosen
}

func (s seen) isChosen() bool { return s.chosen != nil && *s.chosen }

// matches returns the condition for a message, of which arguments are the parameters.
func (l *deadLetterLook) matches() string {
	return strings.ReplaceAll(sqlfile.Text(deadLetterMatchesSQL), "{field}", l.field.SQL(12))
}

// arguments returns the parameters of dead_letter_matches.sql, and others.
func (l *deadLetterLook) arguments(others ...any) []any {
	s := l.chosen
	var value, reason *string
	if s.Header != "" {
		value = &s.Value
	}
	if s.Reason != "" {
		reason = new(deadletters.Expression(s.Reason))
	}
	return append([]any{
		pgx.QueryExecModeCacheDescribe, sqlfile.OrNull(s.ID), codec.DefaultIDOf(s.ID, l.queue), sqlfile.OrNull(s.Handler), reason, sqlfile.OrNull(s.Event), sqlfile.OrNull(s.Group),
		sqlfile.OrNull(s.Header), value, timeOrNull(s.From), timeOrNull(s.To), l.only, l.field.Path, l.field.Value(),
	}, others...)
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// after returns the id after which to begin.
func (l *deadLetterLook) after() int64 {
	if l.chosen.After == 0 {
		return math.MinInt64 // another program may have written any
	}
	return l.chosen.After
}

// next looks at up to limit messages after one, up to the last one. If that takes too long, it looks once more, and reads only
// rows that are read fast: those of a flood must not hide the others.
func (l *deadLetterLook) next(ctx context.Context, after, last int64, limit int) ([]seen, error) {
	found, err := l.look(ctx, after, last, limit)
	if fault.IsCode(err, "57014") && ctx.Err() == nil && !l.slow { // query_canceled
		l.slow = true
		found, err = l.look(ctx, after, last, limit)
	}
	l.large = l.large || slices.ContainsFunc(found, func(s seen) bool { return s.chosen == nil })
	return found, err
}

func (l *deadLetterLook) look(ctx context.Context, after, last int64, limit int) (found []seen, err error) {
	args, rows := l.arguments(after, last, limit), ""
	if len(l.chosen.Rows) > 0 {
		args, rows = append(args, l.chosen.Rows), " and msg_id = any($17::bigint[])"
	}
	sql := strings.NewReplacer("{table}", queuename.Table(l.queue), "{matches}", l.matches(), "{small}", l.small(), "{rows}", rows,
		"{enqueued}", statement.Finite("enqueued_at"), "{texts}", strings.Join(l.texts, ", ")).Replace(sqlfile.Text(deadLettersSQL))
	err = l.run(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (s seen, err error) {
			err = r.Scan(&s.id, &s.chosen, &s.due, &s.enqueued, &s.texts)
			return s, err
		})
		return err
	})
	return found, err
}

// run runs a transaction, no statement of which takes long.
func (l *deadLetterLook) run(ctx context.Context, run func(tx pgx.Tx) error) error {
	return transact.Run(ctx, l.pool, fmt.Sprintf("statement_timeout = %d", max(l.timeout.Milliseconds(), 1)), run)
}

// small tells which rows are read. Consumers take no headers as large as those that are left out.
func (l *deadLetterLook) small() string {
	s := l.chosen
	switch {
	case l.slow && s.Event+s.Field != "":
		return codec.IsReadFast("headers") + " and " + codec.IsReadFast("message")
	case l.slow:
		return codec.IsReadFast("headers")
	case len(s.Rows) > 0, len(l.texts) == 0 && s.ID+s.Handler+s.Reason+s.Event+s.Group+s.Header+s.Field == "" && len(l.only) == 0:
		return "true" // they are named, or their headers do not matter
	}
	return statement.HeadersAreSmall()
}

// leftOut returns an error if not everything was looked at: if the look has ended at a message before the last, or rows were left out.
func (l *deadLetterLook) leftOut(ended *int64, maxRows int) error {
	var reasons, remedies []string
	table := queuename.Table(l.queue)
	if ended != nil {
		reasons = append(reasons, fmt.Sprintf("only %d rows were looked at", maxRows))
		remedies = append(remedies, fmt.Sprintf("go on with After: %d", *ended))
	}
	switch {
	case l.slow:
		reasons = append(reasons, fmt.Sprintf("a statement took longer than %v, and messages with large headers or payloads were left out", l.timeout))
	case l.large:
		reasons = append(reasons, fmt.Sprintf("messages whose headers take more than %d KiB were left out", codec.MaxStoredHeaders>>10))
	}
	if l.slow || l.large {
		remedies = append(remedies, fmt.Sprintf("to see those, run select msg_id from %s where pg_column_size(headers) > 8192, and choose them by their Rows", table))
	}
	if len(reasons) == 0 {
		return nil
	}
	return &backend.TruncatedError{Tables: []string{table}, Reason: strings.Join(reasons, ", and "), Remedy: strings.Join(remedies, "; ")}
}
