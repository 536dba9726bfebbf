package pgmq_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// A trigger that returns NULL leaves a row as it is, and PostgreSQL says nothing. Such rows are the first
// that each claim meets, and here there are more than slots.
func TestLockedBatch_PassesByRowsThatATriggerKeeps(t *testing.T) {
	const bad, good, slots = 30, 60, 10
	log := &logRecorder{}
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: slots}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	client.LockFor(100 * time.Millisecond)
	messages := subscribe(t, client)
	warmUp(t, client, messages)
	requireCount(t, pool, "pgmq.q_t", 0)
	execute(t, pool, `create function keep() returns trigger language plpgsql as $$ begin
			if new.message ? 'Bad' then return null; end if; return new; end $$;
		create trigger keep before update on pgmq.q_t for each row execute function keep()`)
	publishJSON(t, client, `{"Bad":1}`, bad)
	publishJSON(t, client, `{}`, good)
	var held []*message.Message
	for handled := 0; handled < good; {
		if msg := receive(t, messages); string(msg.Payload) == `{}` {
			handled++
			msg.Ack()
		} else {
			held = append(held, msg)
		}
	}
	for _, msg := range held {
		<-msg.Context().Done()
		require.ErrorIs(t, context.Cause(msg.Context()), backend.ErrLeaseLost)
		msg.Nack()
	}
	requireCount(t, pool, "pgmq.q_t", bad)
	pgtest.Eventually(t, patience, "no slot is taken", func() bool {
		s := client.Stats()["t"]
		return s.InFlight == 0 && s.Prefetched == 0 && s.Unstored == 0
	})
	require.Positive(t, client.Stats()["t"].Quarantined)
	require.Contains(t, log.String(), "trigger that returns NULL")
	execute(t, pool, "drop trigger keep on pgmq.q_t")
	for range bad {
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.q_t", 0)
}
