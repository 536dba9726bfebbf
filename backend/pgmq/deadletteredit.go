package pgmq

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/edit_dead_letter.sql
var editDeadLetterSQL string

// maxEdited is how many bytes a dead letter may have that is edited, with its headers, when PostgreSQL has written it out.
const maxEdited = 64 << 20

// deadLetterEdit is one call of EditDeadLetter.
type deadLetterEdit struct {
	backend.DeadLetterEdit
	queue string
}

// run locks the dead letter, looks at what it is, and replaces its payload.
func (e *deadLetterEdit) run(ctx context.Context, tx pgx.Tx) error {
	table := queuename.Table(e.queue)
	due, err := transact.Value[bool](ctx, tx, "select (vt <= statement_timestamp()) is true from "+table+" where msg_id = $1 for update skip locked", e.Row)
	if errors.Is(err, pgx.ErrNoRows) {
		there, err := transact.Value[bool](ctx, tx, "select exists (select from "+table+" where msg_id = $1)", e.Row)
		if err != nil {
			return err
		}
		return &backend.EditConflictError{Row: e.Row, Busy: there}
	}
	if err != nil {
		return err
	}
	if !due {
		return &backend.EditConflictError{Row: e.Row, Busy: true}
	}
	found, err := limitedDeadLetter(maxEdited, maxEdited, 0).readIn(ctx, tx, e.queue, e.Row)
	switch {
	case err != nil:
		return err
	case found.Err != nil:
		return found.Err
	case found.Version() != e.Version:
		return &backend.EditConflictError{Row: e.Row, Found: &found}
	}
	return e.store(ctx, tx, found)
}

// store stores the dead letter that was found with the new payload: as JSON if it was, and jsonb can hold it.
func (e *deadLetterEdit) store(ctx context.Context, tx pgx.Tx, found backend.FoundDeadLetter) error {
	e.Apply(&found, time.Now())
	message, encoding := codec.EncodePayload(found.Metadata, found.Payload)
	asJSON, err := transact.Value[bool](ctx, tx, "select headers->>'ezq_enc'::text is null from "+queuename.Table(e.queue)+" where msg_id = $1", e.Row)
	if err != nil {
		return err
	}
	if asJSON { // also if no header says so, as of a message of another program
		if text, ok := codec.EncodeJSON(found.Payload); ok {
			message, encoding = text, ""
		}
	}
	headers, err := codec.EncodeHeaders("", map[string]string{
		backend.EditedBy: found.Metadata[backend.EditedBy], backend.EditedAt: found.Metadata[backend.EditedAt],
	}, encoding)
	if err != nil {
		return err
	}
	done, err := tx.Exec(ctx, strings.ReplaceAll(sqlfile.Text(editDeadLetterSQL), "{table}", queuename.Table(e.queue)),
		pgx.QueryExecModeCacheDescribe, e.Row, message, headers)
	if err == nil && done.RowsAffected() == 0 {
		err = &Error{
			Cause:  errors.New("PostgreSQL was told to change the dead letter, and has not done so, without an error"),
			Remedy: "look for a trigger, a rule or a policy on " + queuename.Table(e.queue) + " that keeps it as it is",
		}
	}
	return err
}
