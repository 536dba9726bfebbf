package pgmq_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// A BEFORE DELETE trigger can say, by returning NULL, that a row is not to be deleted.
func TestPurge_CountsDeletedAndNamesObstacle(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"q_t", "a_t"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client, pool := open(t, pgmq.Config{})
			archive(t, pool, 2500)
			execute(t, pool, `insert into pgmq.q_t (vt, message) select now(), '{}' from generate_series(1, 2500);
				create function keep() returns trigger language plpgsql as $$ begin
					if old.msg_id % 5 = 0 then return null; end if; return old; end $$;
				create trigger keep before delete on pgmq.`+table+` for each row execute function keep()`)
			purge := func() (int, error) {
				if table == "q_t" {
					return client.PurgeQueue(ctx, "t")
				}
				return client.PurgeArchive(ctx, "t", time.Now().Add(time.Hour))
			}
			for _, want := range []int{2000, 0} {
				deleted, err := purge()
				require.Equal(t, want, deleted)
				require.ErrorContains(t, err, "500 messages stay")
				require.ErrorContains(t, err, "BEFORE DELETE trigger")
				require.ErrorContains(t, err, table)
			}
			requireCount(t, pool, "pgmq."+table, 500)
			execute(t, pool, "drop trigger keep on pgmq."+table)
			deleted, err := purge()
			require.NoError(t, err)
			require.Equal(t, 500, deleted)
		})
	}
}

// The lease of such a message was not lost: it was acked in time.
func TestAck_SaysThatATriggerMayKeepTheMessage(t *testing.T) {
	t.Parallel()
	log := &logRecorder{}
	client, pool := open(t, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{LeaseOnly: true, Lease: 2 * time.Second}})
	messages := subscribe(t, client)
	execute(t, pool, `create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
		create trigger keep before delete on pgmq.q_t for each row execute function keep()`)
	publish(t, client, "a")
	go func() {
		for msg := range messages { // again after each lease
			msg.Ack()
		}
	}()
	log.requireLogged(t, "stayed in the store until their leases ended")
	require.NotContains(t, log.String(), "after their leases were lost")
	execute(t, pool, "drop trigger keep on pgmq.q_t")
	requireCount(t, pool, "pgmq.q_t", 0)
}

// PostgreSQL returns no error for it, and the last record needs a reason.
func TestClose_SaysThatATriggerMayKeepTheMessage(t *testing.T) {
	t.Parallel()
	log := &logRecorder{}
	config := pgmq.SubscriberConfig{LeaseOnly: true, DrainTimeout: 3 * time.Second} // for which Close tries
	client, pool := open(t, pgmq.Config{Logger: log.logger(), Subscriber: config})
	messages := subscribe(t, client)
	execute(t, pool, `create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
		create trigger keep before delete on pgmq.q_t for each row execute function keep()`)
	publish(t, client, "a")
	receive(t, messages).Ack()
	require.NoError(t, client.Close())
	log.requireLogged(t, "could not store what has become of messages")
	require.Contains(t, log.String(), "a trigger that returns NULL")
	require.NotContains(t, log.String(), "error=<nil>")
}

func TestPurge_SaysThatOneRefusedMessageStopsIt(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `insert into pgmq.q_t (vt, message) select now(), '{}' from generate_series(1, 1500);
		create function refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$;
		create trigger refuse before delete on pgmq.q_t for each row when (old.msg_id = 1200) execute function refuse()`)
	deleted, err := client.PurgeQueue(t.Context(), "t")
	require.Equal(t, 1000, deleted)
	require.ErrorContains(t, err, "1000 messages are deleted, and all others stay")
	require.ErrorContains(t, err, "not today")
	require.ErrorContains(t, err, `look for the trigger or the constraint on "pgmq"."q_t"`)
}
