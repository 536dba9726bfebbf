package pgmq_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const keptRemedy = "keeps it out, or stores it in another table"

// keepOut has a table not take the message odd, and say nothing of it.
func keepOut(t *testing.T, pool *pgxpool.Pool, table, elsewhere string) {
	t.Helper()
	store := ""
	if elsewhere != "" {
		store = "insert into " + elsewhere + " values (new.message);"
		execute(t, pool, "create table "+elsewhere+" (message jsonb)")
	}
	execute(t, pool, `create function keep_out() returns trigger language plpgsql as $$ begin
			if new.headers->>'ezq_uuid' = 'odd' then `+store+` return null; end if;
			return new; end $$;
		create trigger keep_out before insert on pgmq.`+table+` for each row execute function keep_out()`)
}

// keptOut is where a trigger has the row that it keeps out.
func keptOut() map[string]string {
	return map[string]string{"a trigger returns NULL": "", "a trigger stores the row in another table": "elsewhere"}
}

func TestDeadLetter_ThatATriggerKeepsOutIsNotLost(t *testing.T) {
	t.Parallel()
	for name, elsewhere := range keptOut() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logRecorder{}
			client, pool := open(t, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{MaxInFlight: 50, NackDelay: time.Hour}})
			require.NoError(t, client.SubscribeInitialize("t_dead"))
			messages := subscribe(t, client)
			keepOut(t, pool, "q_t_dead", elsewhere)
			publishOddAmong(t, client, 30)
			for range 30 {
				require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "t_dead"}))
			}
			requireCount(t, pool, "pgmq.q_t_dead", 29)
			requireCount(t, pool, "pgmq.q_t where headers->>'ezq_uuid' = 'odd' and vt > now() + interval '50 minutes'", 1)
			log.requireLogged(t, keptRemedy)
			if elsewhere != "" {
				requireCount(t, pool, "elsewhere", 0)
			}
		})
	}
}

func TestArchive_ThatATriggerKeepsOutLosesNothing(t *testing.T) {
	t.Parallel()
	for name, leaseOnly := range map[string]bool{"the messages are locked": false, "the messages are leased": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logRecorder{}
			client, pool := open(t, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{Archive: true, MaxInFlight: 50, LeaseOnly: leaseOnly}})
			messages := subscribe(t, client)
			keepOut(t, pool, "a_t", "")
			publishOddAmong(t, client, 30)
			for range 30 {
				receive(t, messages).Ack()
			}
			requireCount(t, pool, "pgmq.a_t", 29)
			requireCount(t, pool, "pgmq.q_t", 1)
			log.requireLogged(t, keptRemedy)
			execute(t, pool, "drop trigger keep_out on pgmq.a_t")
			requireCount(t, pool, "pgmq.a_t", 30)
		})
	}
}

func TestQuarantine_ThatATriggerKeepsOutIsNotLost(t *testing.T) {
	t.Parallel()
	log := &logRecorder{}
	config := withMaxMessage(1 << 20)
	config.Logger = log.logger()
	client, pool := open(t, config)
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `create function keep_out() returns trigger language plpgsql as 'begin return null; end';
		create trigger keep_out before insert on pgmq.a_t for each row execute function keep_out()`)
	insertBombs(t, pool, 2, numbers(100, "1e131071"), "null")
	publish(t, client, "after")
	receive(t, subscribe(t, client)).Ack()
	requireCount(t, pool, "pgmq.q_t where vt > now() + interval '50 minutes' and headers ? 'reason_poisoned'", 2)
	requireCount(t, pool, "pgmq.a_t", 0)
	log.requireLogged(t, "is hidden")
	require.NotContains(t, log.String(), "was moved to the archive")
}

func TestRedrive_ThatATriggerKeepsOutIsNotLost(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 30)
	execute(t, pool, "select pgmq.create('t'); update pgmq.q_dead set headers = headers || '{\"ezq_uuid\":\"odd\"}' where msg_id = 1")
	keepOut(t, pool, "q_t", "elsewhere")
	moved, err := redrive(t.Context(), client, "dead", 100, "t")
	require.Equal(t, 29, moved)
	require.ErrorContains(t, err, "dead letters that stay: 1; the first is the row 1")
	require.ErrorContains(t, err, keptRemedy)
	requireCount(t, pool, "pgmq.q_t", 29)
	requireCount(t, pool, "pgmq.q_dead", 1)
	requireCount(t, pool, "elsewhere", 0)
}

// A letter that a trigger has the table keep is no letter that is leased.
func TestRedrive_OfLetterThatATriggerKeepsSaysSo(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	insertDeadLetters(t, pool, 30)
	execute(t, pool, `select pgmq.create('t');
		create function keep() returns trigger language plpgsql as 'begin if old.msg_id = 7 then return null; end if; return old; end';
		create trigger keep before delete on pgmq.q_dead for each row execute function keep()`)
	moved, err := redrive(t.Context(), client, "dead", 100, "t")
	require.Equal(t, 29, moved)
	require.ErrorContains(t, err, "PostgreSQL was told to delete them, and returned no error; dead letters that stay: 1; the first is the row 7")
	require.ErrorContains(t, err, "a BEFORE DELETE trigger that returns NULL")
	requireCount(t, pool, "pgmq.q_t", 29)
	moved, err = redrive(t.Context(), client, "dead", 100, "t")
	require.Zero(t, moved)
	require.Error(t, err)
}

func TestReplay_ThatATriggerKeepsOutSaysSo(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Archive: true}})
	messages := subscribe(t, client)
	publishOddAmong(t, client, 3)
	for range 3 {
		receive(t, messages).Ack()
	}
	requireCount(t, pool, "pgmq.a_t", 3)
	require.NoError(t, client.Close())
	keepOut(t, pool, "q_t", "")
	replaying, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = replaying.Close() })
	n, err := replaying.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	require.Zero(t, n)
	require.ErrorContains(t, err, keptRemedy)
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestPublish_ThatATriggerKeepsOutIsRejected(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	keepOut(t, pool, "q_t", "")
	odd := message.NewMessage("odd", []byte("{}"))
	for _, all := range [][]*message.Message{{odd}, {odd, odd}, {message.NewMessage("1", nil), odd, message.NewMessage("2", nil)}} {
		err := client.Publish("t", all...)
		require.ErrorIs(t, err, pgmq.ErrRejected)
		require.ErrorContains(t, err, keptRemedy)
		require.NotContains(t, err.Error(), "groups")
	}
	requireCount(t, pool, "pgmq.q_t", 0)
	require.NoError(t, client.Publish("t", message.NewMessage("1", nil), message.NewMessage("2", nil)))
	requireCount(t, pool, "pgmq.q_t", 2)

	group := group(t, pool.Config().ConnString(), "g")
	require.NoError(t, group.SubscribeInitialize("t"))
	err := client.Publish("t", odd, message.NewMessage("3", nil))
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, keptRemedy)
	requireCount(t, pool, "pgmq.q_t", 2)
}

// What others publish at the same time shares a statement with it.
func TestPublish_ThatATriggerKeepsOutFailsNoOther(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	keepOut(t, pool, "q_t", "")
	failed := make(chan error, 200)
	for i := range 200 {
		go func() {
			if i%10 == 0 {
				failed <- client.Publish("t", message.NewMessage("odd", nil))
				return
			}
			if err := client.Publish("t", message.NewMessage("good", nil)); err != nil {
				failed <- errors.New("a good one: " + err.Error())
				return
			}
			failed <- nil
		}()
	}
	rejected := 0
	for range 200 {
		if err := <-failed; err != nil {
			require.ErrorIs(t, err, pgmq.ErrRejected)
			rejected++
		}
	}
	require.Equal(t, 20, rejected)
	pgtest.Eventually(t, patience, "all are stored", func() bool { return get[int](t, pool, "select count(*) from pgmq.q_t") == 180 })
}

// An ID is not remembered, and a key not taken, whose message is not there.
func TestPublish_OnAConditionThatATriggerKeepsOutIsRejected(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	execute(t, pool, `create function keep_out() returns trigger language plpgsql as 'begin return null; end';
		create trigger keep_out before insert or update on pgmq.q_t for each row execute function keep_out()`)
	type event struct{ Number int }
	options := map[string][]ezq.PublishOption{
		"an ID": {ezq.Topic("t"), ezq.ID("1")}, "a key": {ezq.Topic("t"), ezq.Unique("k")}, "a key that replaces": {ezq.Topic("t"), ezq.Replace("r")},
	}
	for name, with := range options {
		err := ezq.Publish(t.Context(), client, event{1}, with...)
		require.ErrorIs(t, err, pgmq.ErrRejected, name)
		require.ErrorContains(t, err, keptRemedy, name)
	}
	execute(t, pool, "drop trigger keep_out on pgmq.q_t")
	for name, with := range options {
		require.NoError(t, ezq.Publish(t.Context(), client, event{2}, with...), name)
	}
	requireCount(t, pool, "pgmq.q_t", 3)
	execute(t, pool, "create trigger keep_out before update on pgmq.q_t for each row execute function keep_out()")
	require.ErrorContains(t, ezq.Publish(t.Context(), client, event{3}, options["a key that replaces"]...), keptRemedy)
}
