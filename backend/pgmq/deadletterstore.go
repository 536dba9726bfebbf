package pgmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/deadletters"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/search"
)

// deadLetterStore is the dead letters of a Client.
type deadLetterStore struct {
	publisher *Publisher
	maxRows   int           // that a list or a count looks at
	timeout   time.Duration // of a statement that looks
	maxListed int           // bytes of memory that a list takes
}

func newDeadLetterStore(publisher *Publisher) *deadLetterStore {
	return &deadLetterStore{publisher: publisher, maxRows: search.MaxRows, timeout: search.Timeout, maxListed: maxListed}
}

// look returns a look at the dead letters in a topic that s chooses.
func (d *deadLetterStore) look(from string, s backend.DeadLetterSelection) (*deadLetterLook, error) {
	queue, err := d.publisher.ownQueue(from)
	if err != nil {
		return nil, err
	}
	for _, topic := range s.Topics {
		if err := queuename.Check(topic); err != nil {
			return nil, err
		}
	}
	if err := s.Check(); err != nil {
		return nil, &Error{Kind: ErrInvalidConfig, Cause: err}
	}
	field, err := search.NewBodyField(s.Field, s.Equals)
	return &deadLetterLook{pool: d.publisher.pool, queue: queue, chosen: s, field: field, timeout: d.timeout}, err
}

// lookAtOrigins is look for dead letters that are moved or deleted, and returns which of those that are chosen are meant.
func (d *deadLetterStore) lookAtOrigins(from string, s backend.DeadLetterSelection) (*deadLetterLook, *origins, error) {
	look, err := d.look(from, s)
	if err != nil {
		return nil, nil, err
	}
	selected := newOrigins(d.publisher.pool, from, s.Topics)
	err = selected.check(from)
	return look, selected, err
}

// list reads dead letters in a topic.
func (d *deadLetterStore) list(ctx context.Context, from string, s backend.DeadLetterSelection, detail deadLetterDetail) (found []backend.FoundDeadLetter, err error) {
	const op = "list dead letters"
	look, err := d.look(from, s)
	if err != nil {
		return nil, fault.Classify(op, from, err)
	}
	look.only = s.Topics
	var ids []int64
	limit := cmp.Or(s.Limit, backend.DefaultFindLimit)
	leftOut := d.each(ctx, look, func() int { return limit - len(ids) }, func(one seen) { ids = append(ids, one.id) })
	if truncated := (*backend.TruncatedError)(nil); leftOut == nil || errors.As(leftOut, &truncated) {
		var more bool
		found, more, err = detail.list(ctx, d.publisher.pool, look.queue, ids)
		if more {
			leftOut = &backend.TruncatedError{
				Tables: []string{queuename.Table(look.queue)}, Reason: fmt.Sprintf("the list ends where it takes %d KiB of memory", detail.most>>10),
				Remedy: fmt.Sprintf("go on with After: %d", found[len(found)-1].Row),
			}
		}
	}
	return found, deadLetterError(ctx, d.publisher.pool, op, from, cmp.Or(err, leftOut))
}

// each looks at dead letters, one batch after the other, until no more are wanted, and passes on those that are chosen. It looks at
// maxRows at most.
func (d *deadLetterStore) each(ctx context.Context, look *deadLetterLook, wanted func() int, do func(seen)) error {
	after := look.after()
	for looked := 0; wanted() > 0; {
		left := d.maxRows - looked
		found, err := look.next(ctx, after, math.MaxInt64, min(max(wanted(), lookMinBatch), lookBatch, max(left, 1)))
		switch {
		case err != nil || len(found) == 0:
			return cmp.Or(err, look.leftOut(nil, 0))
		case left == 0: // and there is one more
			return look.leftOut(&after, looked)
		}
		for _, one := range found {
			if one.isChosen() && wanted() > 0 {
				do(one)
			}
		}
		looked, after = looked+len(found), found[len(found)-1].id
	}
	return look.leftOut(nil, 0)
}

// count counts dead letters in a topic.
func (d *deadLetterStore) count(ctx context.Context, from string, s backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
	const op = "count dead letters"
	look, err := d.look(from, s)
	if err != nil {
		return nil, fault.Classify(op, from, err)
	}
	look.only = s.Topics
	look.texts = []string{
		headerSQL(backend.DeadLetterTopic), headerSQL(codec.GroupKey), headerSQL(backend.DeadLetterHandler), eventSQL(), headerSQL(backend.DeadLetterReason),
	}
	counts := deadletters.NewCounts()
	err = d.each(ctx, look, func() int { return math.MaxInt }, func(one seen) {
		t := one.texts
		counts.Add(backend.FoundDeadLetter{Topic: t[0], Group: t[1], Handler: t[2], Event: t[3], Reason: t[4]}, one.enqueued)
	})
	return counts.Most(cmp.Or(s.Limit, backend.DefaultFindLimit)), deadLetterError(ctx, d.publisher.pool, op, from, err)
}

// origins is [Client.Origins].
func (d *deadLetterStore) origins(ctx context.Context, from string, s backend.DeadLetterSelection) (found []Origin, err error) {
	look, selected, err := d.lookAtOrigins(from, s)
	if err == nil {
		found, err = countOrigins(ctx, d.publisher.routes, look, selected)
	}
	return found, fault.Classify(fault.OriginsOp, from, err)
}

// redrive is [Client.Redrive].
func (d *deadLetterStore) redrive(ctx context.Context, from string, s backend.DeadLetterSelection) (done backend.Redriven, err error) {
	look, selected, err := d.lookAtOrigins(from, s)
	if err == nil {
		done, err = newRedrive(d.publisher, look, selected).run(ctx, from)
	}
	return done, fault.Classify("redrive", from, err)
}

// purge is [Client.PurgeDeadLetters].
func (d *deadLetterStore) purge(ctx context.Context, from string, s backend.DeadLetterSelection) (backend.Purged, error) {
	const op = "purge dead letters"
	look, selected, err := d.lookAtOrigins(from, s)
	if err != nil {
		return backend.Purged{}, fault.Classify(op, from, err)
	}
	purge := &deadLetterPurge{look: look, origins: selected}
	done, err := purge.run(ctx)
	return done, deadLetterError(ctx, d.publisher.pool, op, from, err)
}

// edit is [Client.EditDeadLetter].
func (d *deadLetterStore) edit(ctx context.Context, from string, e backend.DeadLetterEdit) error {
	const op = "edit a dead letter"
	look, err := d.look(from, backend.DeadLetterSelection{})
	if err == nil {
		err = d.checkEdit(e)
	}
	if err != nil {
		return fault.Classify(op, from, err)
	}
	edit := &deadLetterEdit{DeadLetterEdit: e, queue: look.queue}
	err = fault.Changed(look.run(ctx, func(tx pgx.Tx) error { return edit.run(ctx, tx) }), 1)
	return deadLetterError(ctx, d.publisher.pool, op, from, err)
}

func (d *deadLetterStore) checkEdit(e backend.DeadLetterEdit) error {
	if err := e.Check(); err != nil {
		kind := ErrInvalidMessage
		if e.Payload = []byte("null"); e.Check() != nil { // it is not the payload that is refused
			kind = ErrInvalidConfig
		}
		return &Error{Kind: kind, Cause: err}
	}
	if size, limit := len(e.Payload), d.publisher.config.MaxPayloadBytes; size > limit {
		return &Error{
			Kind: ErrTooLarge, Cause: fmt.Errorf("the payload has %d bytes, and the limit is %d", size, limit),
			Remedy: "store it elsewhere and send a reference, or raise MaxPayloadBytes",
		}
	}
	return nil
}

// readOne is [Client.ReadDeadLetter].
func (d *deadLetterStore) readOne(ctx context.Context, from string, row int64, limit int) (backend.FoundDeadLetter, error) {
	const op = "read a dead letter"
	queue, err := d.publisher.ownQueue(from)
	if err != nil {
		return backend.FoundDeadLetter{}, fault.Classify(op, from, err)
	}
	found, err := limitedDeadLetter(limit, limit, limit).read(ctx, d.publisher.pool, queue, row)
	return found, deadLetterError(ctx, d.publisher.pool, op, from, err)
}
