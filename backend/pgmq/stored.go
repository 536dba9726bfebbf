package pgmq

import (
	"cmp"
	"context"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/search"
	"github.com/ezq-go/ezq/backend/pgmq/internal/wakeup"
)

// storedMessages is what topics have stored.
type storedMessages struct {
	publisher *Publisher
	search    search.Search
}

func newStoredMessages(publisher *Publisher) *storedMessages {
	return &storedMessages{publisher, search.Search{Pool: publisher.pool, MaxRows: search.MaxRows, Timeout: search.Timeout, MaxMemory: search.MaxMemory}}
}

func (m *storedMessages) find(ctx context.Context, topic string, s backend.Selection) ([]backend.Found, error) {
	const op = "find"
	if err := m.check(topic, s.Check()); err != nil {
		return nil, fault.Classify(op, topic, err)
	}
	return m.search.Find(ctx, op, topic, s)
}

func (m *storedMessages) cancel(ctx context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	const op = "cancel"
	if err := m.check(topic, s.CheckWaiting()); err != nil {
		return backend.Cancelled{}, fault.Classify(op, topic, err)
	}
	return m.search.Cancel(ctx, op, topic, s)
}

func (m *storedMessages) cancelRunning(ctx context.Context, topic string, s backend.Selection) (backend.Cancelled, error) {
	const op = "cancel"
	if err := m.check(topic, s.CheckWaiting()); err != nil {
		return backend.Cancelled{}, fault.Classify(op, topic, err)
	}
	return m.search.CancelRunning(ctx, op, topic, s, func(queue string) { m.publisher.notify([]string{wakeup.Removals(queue)}) })
}

func (m *storedMessages) reschedule(ctx context.Context, topic string, s backend.Selection, at time.Time) (backend.Rescheduled, error) {
	const op = "reschedule"
	if err := m.check(topic, cmp.Or(s.CheckWaiting(), backend.CheckRescheduleTime(at))); err != nil {
		return backend.Rescheduled{}, fault.Classify(op, topic, err)
	}
	return m.search.Reschedule(ctx, op, topic, s, at, func(queue string) { m.publisher.notify([]string{queue}) })
}

// check returns why nothing can be selected of topic, which invalid says of the selection.
func (m *storedMessages) check(topic string, invalid error) error {
	if err := m.publisher.checkOpen(); err != nil {
		return err
	}
	if err := checkUserTopic(topic); err != nil || invalid == nil {
		return err
	}
	return &Error{Kind: ErrInvalidConfig, Cause: invalid}
}
