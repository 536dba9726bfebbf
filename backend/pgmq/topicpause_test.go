package pgmq_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func pauseT(t *testing.T, client *pgmq.Client) backend.Paused {
	t.Helper()
	paused, err := client.Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: "the bank is down"})
	require.NoError(t, err)
	return paused
}

func resumeT(t *testing.T, client *pgmq.Client) {
	t.Helper()
	resumed, err := client.Resume(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, resumed)
}

// requirePaused waits until the subscription of client to t is paused, or is not.
func requirePaused(t *testing.T, client *pgmq.Client, want bool) {
	t.Helper()
	pgtest.Eventually(t, patience, fmt.Sprintf("that t is paused is %v", want), func() bool {
		return (client.Stats()["t"].TopicPause != nil) == want
	})
}

// requireNothingClaimed requires that what is published to t is not claimed.
func requireNothingClaimed(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, messages <-chan *message.Message) {
	t.Helper()
	publish(t, client, "held")
	select {
	case msg := <-messages:
		require.Fail(t, "a message came", "%s", msg.Payload)
	case <-time.After(200 * time.Millisecond):
	}
	require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_t where read_ct > 0"))
}

func TestPauseTopic_IsHeardOfByOtherProcesses(t *testing.T) {
	t.Parallel()
	log := &logRecorder{}
	consumer, pool := open(t, pgmq.Config{Logger: log.logger()})
	operator, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = operator.Close() })
	messages := subscribe(t, consumer)
	for range 2 {
		paused := pauseT(t, operator)
		require.WithinDuration(t, time.Now(), paused.Since, time.Minute)
		requirePaused(t, consumer, true)
		requireNothingClaimed(t, operator, pool, messages)
		require.Equal(t, "ada", consumer.Stats()["t"].TopicPause.By)
		all, err := operator.AllPauses(t.Context())
		require.NoError(t, err)
		require.Equal(t, []backend.Paused{paused}, all)
		resumeT(t, operator)
		receive(t, messages).Ack()
		requirePaused(t, consumer, false)
	}
	log.requireLogged(t, "the topic is paused; nothing is fetched until it is resumed")
	log.requireLogged(t, "the bank is down")
	log.requireLogged(t, "no pause of the topic is known any more; fetching goes on")
}

// Without notifications it takes a look.
func TestPauseTopic_IsNoticedWithinPollInterval(t *testing.T) {
	t.Parallel()
	consumer, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoListen: true, PollInterval: 50 * time.Millisecond}})
	messages := subscribe(t, consumer)
	operator, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = operator.Close() })
	pauseT(t, operator)
	requirePaused(t, consumer, true)
	requireNothingClaimed(t, operator, pool, messages)
	resumeT(t, operator)
	receive(t, messages).Ack()
}

func TestPauseTopic_EndsByTheServersClock(t *testing.T) {
	t.Parallel()
	consumer, pool := open(t, pgmq.Config{})
	require.NoError(t, consumer.SubscribeInitialize("t"))
	pauseT(t, consumer)
	execute(t, pool, "update pgmq.ezq_pauses set until = now() + interval '1 second'")
	messages := subscribe(t, consumer)
	require.NotNil(t, consumer.Stats()["t"].TopicPause)
	publish(t, consumer, "a")
	receive(t, messages).Ack()
	require.True(t, get[bool](t, pool, "select until <= now() from pgmq.ezq_pauses"))
	all, err := consumer.Pauses(t.Context(), "t")
	require.NoError(t, err)
	require.Empty(t, all)
	resumed, err := consumer.Resume(t.Context(), "t")
	require.NoError(t, err)
	require.False(t, resumed, "it had ended")
}

// The process looks at its pauses once an hour, and knows when this one ends, which it has found meanwhile.
func TestPauseTopic_EndsInTimeForLaterSubscription(t *testing.T) {
	t.Parallel()
	consumer, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoListen: true, PollInterval: time.Hour}})
	_, err := consumer.Subscribe(t.Context(), "other")
	require.NoError(t, err)
	pauseT(t, consumer)
	publish(t, consumer, "a")
	execute(t, pool, "update pgmq.ezq_pauses set until = now() + interval '1 second'")
	receive(t, subscribe(t, consumer)).Ack()
}

func TestPauseTopic_OfGroupLeavesOtherGroups(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	of := func(group string) *pgmq.Client {
		return openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
	}
	billing, audit, operator := of("billing"), of("audit"), of("")
	billed, audited := subscribe(t, billing), subscribe(t, audit)
	pauseT(t, billing)
	requirePaused(t, billing, true)
	publish(t, operator, "1")
	receive(t, audited).Ack()
	resumed, err := operator.Resume(t.Context(), "t")
	require.NoError(t, err)
	require.False(t, resumed, "the topic as a whole was not paused")
	all, err := operator.Pauses(t.Context(), "t")
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "billing", all[0].Group)
	all, err = audit.Pauses(t.Context(), "t")
	require.NoError(t, err)
	require.Empty(t, all)

	pauseT(t, operator)
	requirePaused(t, audit, true)
	publish(t, operator, "2")
	resumeT(t, billing)
	requirePaused(t, billing, true) // with the topic
	resumeT(t, operator)
	for range 2 {
		receive(t, billed).Ack()
	}
	receive(t, audited).Ack()
	require.Equal(t, 2, get[int](t, pool, "select count(*) from pgmq.meta"))
}

// One client pauses each group, and the topic.
func TestPauserOf_PausesOneGroup(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	billing := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "billing"}})
	audit := openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "audit"}})
	audited := subscribe(t, audit)
	operator := billing.PauserOf("audit")
	paused, err := operator.Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: "r"})
	require.NoError(t, err)
	require.Equal(t, []string{"t", "audit"}, []string{paused.Topic, paused.Group})
	requirePaused(t, audit, true)
	all, err := billing.PauserOf("").Pauses(t.Context(), "t")
	require.NoError(t, err)
	require.Len(t, all, 1)
	publish(t, audit, "1")
	resumed, err := operator.Resume(t.Context(), "t")
	require.NoError(t, err)
	require.True(t, resumed)
	receive(t, audited).Ack()
	require.NoError(t, billing.Close())
	_, err = operator.Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: "r"})
	require.ErrorIs(t, err, backend.ErrClosed)
}

// What was written by hand is shown within bounds, and pauses.
func TestPauseTopic_WrittenByHandPauses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		since, until string
		holds        bool
	}{
		"for ever":        {"'infinity'", "'infinity'", true},
		"without an end":  {"'-infinity'", "null", true},
		"in the far past": {"'4713-01-01 BC'", "'294276-01-01'", true},
		"that has ended":  {"now()", "'-infinity'", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logRecorder{}
			client, pool := open(t, pgmq.Config{Logger: log.logger()})
			pauseT(t, client)
			execute(t, pool, fmt.Sprintf("update pgmq.ezq_pauses set since = %s, until = %s, paused_by = repeat('a', 100000), reason = e'\\033[2J\\n' || repeat('b', 100000)", test.since, test.until))
			messages := subscribe(t, client)
			require.Equal(t, test.holds, client.Stats()["t"].TopicPause != nil)
			if !test.holds {
				publish(t, client, "a")
				receive(t, messages).Ack()
				return
			}
			requireNothingClaimed(t, client, pool, messages)
			paused := client.Stats()["t"].TopicPause
			pauses, err := client.Pauses(t.Context(), "t")
			require.NoError(t, err)
			require.Equal(t, *paused, pauses[0], "one that changes with each look is logged with each look")
			require.Len(t, paused.By, backend.MaxPauseAuthor)
			require.LessOrEqual(t, len(paused.Reason), backend.MaxPauseReason)
			require.NotContains(t, log.String(), strings.Repeat("b", backend.MaxPauseReason+1))
			resumeT(t, client)
			receive(t, messages).Ack()
		})
	}
}

func TestPauseTopic_EndsWithItsTable(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoListen: true, PollInterval: 50 * time.Millisecond}})
	messages := subscribe(t, client)
	pauseT(t, client)
	requirePaused(t, client, true)
	execute(t, pool, "drop table pgmq.ezq_pauses")
	requirePaused(t, client, false)
	publish(t, client, "a")
	receive(t, messages).Ack()
	pauseT(t, client) // which creates it again
	requirePaused(t, client, true)
}

func TestPauseTopic_ThatCannotBeReadStopsNoConsumer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spoil, says string }{
		"without the privilege":  {"revoke all on pgmq.ezq_pauses from public", "GRANT SELECT ON pgmq.ezq_pauses"},
		"with other columns":     {"alter table pgmq.ezq_pauses rename column reason to why", "which has other columns than ezq needs"},
		"with columns of others": {"alter table pgmq.ezq_pauses alter column until type text", "which has other columns than ezq needs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := ordersDatabase(t)
			pool := pgtest.Pool(t, database)
			log := &logRecorder{}
			execute(t, pool, test.spoil)
			url := pgtest.Role(t, database, grantsOf(t, "ezq_consumer")...)
			if name == "without the privilege" {
				execute(t, pool, "do $$ declare r text; begin for r in select grantee from information_schema.role_table_grants"+
					" where table_name = 'ezq_pauses' and grantee <> current_user loop execute format('revoke all on pgmq.ezq_pauses from %I', r); end loop; end $$")
			}
			client, err := openAs(t, url, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{NoCreate: true}})
			require.NoError(t, err)
			messages, err := client.Subscribe(t.Context(), "orders")
			require.NoError(t, err)
			receive(t, messages).Ack()
			log.requireLogged(t, "pauses cannot be read; no topic counts as paused")
			log.requireLogged(t, test.says)
			_, err = client.Pause(t.Context(), "orders", backend.Pause{By: "a", Reason: "b"})
			var failed *pgmq.Error
			require.ErrorAs(t, err, &failed)
			require.NotEmpty(t, failed.Remedy)
			require.Equal(t, "orders", failed.Topic)
		})
	}
}

func TestCircuitBreaker_NeedsDocumentedRights(t *testing.T) {
	t.Parallel()
	pause := func(database string, grants []string) error {
		client := openAt(t, pgtest.Role(t, database, grants...), pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoCreate: true}})
		for range 2 { // the second one outlasts the first
			if _, err := client.Pause(t.Context(), "orders", backend.Pause{By: "a breaker", Reason: "an outage", For: time.Minute}); err != nil {
				return err
			}
		}
		_, err := client.Pauses(t.Context(), "orders")
		return err
	}
	database := ordersDatabase(t)
	grants := grantsOf(t, "ezq_consumer")
	missing := pause(database, grants)
	require.ErrorIs(t, missing, pgmq.ErrPermission)
	require.ErrorContains(t, missing, "; let its owner run GRANT SELECT, INSERT, UPDATE ON pgmq.ezq_pauses TO the role", "the table is there")
	require.NotContains(t, missing.Error(), "create table")
	documented := strings.Replace(sqlBlock(t, "grant insert, update on pgmq.ezq_pauses"), "ezq_consumer;", "{role}", 1)
	require.NoError(t, pause(database, append(grants, documented)))
	for _, one := range []string{"insert", "update"} {
		without := append(grants, strings.Replace(documented, "insert, update", one, 1))
		require.ErrorIs(t, pause(database, without), pgmq.ErrPermission, one)
	}
	execute(t, pgtest.Pool(t, database), "drop table pgmq.ezq_pauses")
	require.ErrorContains(t, pause(database, []string{"grant usage on schema pgmq to {role}"}), "let the owner of the queues run create table pgmq.ezq_pauses")
}

// A role that may create tables could otherwise pause the queues of all others, or run code as they.
func TestPauseTopic_InTableOfUntrustedRoleIsIgnored(t *testing.T) {
	t.Parallel()
	database := ordersDatabase(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "drop table pgmq.ezq_pauses")
	attacker := pgtest.Pool(t, pgtest.Role(t, database, "grant usage, create on schema pgmq to {role}"))
	execute(t, attacker, sqlBlock(t, "create table if not exists pgmq.ezq_pauses"))
	execute(t, attacker, "insert into pgmq.ezq_pauses values ('orders', 'orders', '', 'mallory', 'because', now())")
	execute(t, attacker, "create function pgmq.evil() returns trigger language plpgsql as $$ begin return null; end $$")
	execute(t, attacker, "create trigger evil before insert on pgmq.ezq_pauses for each row execute function pgmq.evil()")
	execute(t, attacker, "grant all on pgmq.ezq_pauses to public")
	log := &logRecorder{}
	client := openAt(t, database, pgmq.Config{Logger: log.logger()})
	messages, err := client.Subscribe(t.Context(), "orders")
	require.NoError(t, err)
	receive(t, messages).Ack()
	log.requireLogged(t, "no topic counts as paused")
	_, err = client.Pause(t.Context(), "orders", backend.Pause{By: "a", Reason: "b"})
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "has no reason to trust")
}

func TestPauseTopic_BadOnesAreRefused(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	_, err := client.Pause(t.Context(), "t", backend.Pause{By: "ada"})
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	require.ErrorContains(t, err, `pause for "t"`)
	require.ErrorContains(t, err, "Pause.Reason")
	_, err = client.Pause(t.Context(), "t\x00", backend.Pause{By: "ada", Reason: "r"})
	require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
	_, err = client.Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: "r"})
	require.ErrorIs(t, err, pgmq.ErrNotPrepared)
	require.NotContains(t, err.Error(), "condition")
	require.ErrorContains(t, err, "create table pgmq.ezq_pauses")
	resumed, err := client.Resume(t.Context(), "t")
	require.NoError(t, err)
	require.False(t, resumed)
	all, err := client.AllPauses(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	require.Equal(t, 0, get[int](t, pool, "select count(*) from pg_class where relname = 'ezq_pauses'"))
}

// Many that pause a topic for the first time at once create one table.
func TestPauseTopic_ManyAtOnceAgree(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	results := make(chan error)
	for range 8 {
		client := openAt(t, database, pgmq.Config{})
		go func() {
			_, err := client.Pause(t.Context(), "t", backend.Pause{By: "ada", Reason: "r"})
			results <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-results)
	}
}

// Any role that may pause can write 500 MB there by hand, in 5 MB, and any name.
func TestPauseTopic_LargeTextsWrittenByHandHideNothing(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize("t"))
	_, err := client.Pause(t.Context(), "other", backend.Pause{By: "ada", Reason: "the bank is down"})
	require.NoError(t, err)
	const large = "repeat('x', 100000000)"
	execute(t, pool, "insert into pgmq.ezq_pauses values ('t', "+large+", "+large+", "+large+", "+large+", now()), ('u', "+large+", '', 'by', "+large+", now())")
	subscribe(t, client)
	paused := client.Stats()["t"].TopicPause
	require.NotNil(t, paused)
	require.Equal(t, "t", paused.Topic)
	require.Empty(t, paused.Group)
	require.LessOrEqual(t, len(paused.By), backend.MaxPauseAuthor)
	require.LessOrEqual(t, len(paused.Reason), backend.MaxPauseReason)

	all, err := client.AllPauses(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	for _, paused := range all {
		require.Less(t, len(paused.Topic+paused.Group+paused.By+paused.Reason), 3000)
	}
	require.Contains(t, []string{all[0].Topic, all[1].Topic, all[2].Topic}, "other")
	all, err = client.Pauses(t.Context(), "t")
	require.NoError(t, err)
	require.Len(t, all, 1, "it pauses the queue, whatever topic it names")
	require.Equal(t, "t", all[0].Topic)
}

func TestPauses_SayWhatTheyLeaveOut(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	pauseT(t, client)
	execute(t, pool, "insert into pgmq.ezq_pauses select 'q' || n, 'q' || n, '', 'by', 'reason', now() from generate_series(1, 10000) as n")
	all, err := client.AllPauses(t.Context())
	var truncated *backend.TruncatedError
	require.ErrorAs(t, err, &truncated)
	require.ErrorContains(t, err, "only the first 10000 pauses")
	require.Len(t, all, 10_000)
	all, err = client.Pauses(t.Context(), "t")
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// An operator may lock it, by hand or with an ALTER TABLE.
func TestSubscribe_WaitsNoTimeForLockedPauses(t *testing.T) {
	t.Parallel()
	log := &logRecorder{}
	client, pool := open(t, pgmq.Config{Logger: log.logger()})
	const topics = 10
	for i := range topics {
		require.NoError(t, client.SubscribeInitialize(fmt.Sprint("t", i)))
	}
	pauseT(t, client)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "lock table pgmq.ezq_pauses")
	require.NoError(t, err)
	start, subscribed := time.Now(), make(chan error)
	for i := range topics {
		go func() {
			_, err := client.Subscribe(t.Context(), fmt.Sprint("t", i))
			subscribed <- err
		}()
	}
	for range topics {
		require.NoError(t, <-subscribed)
	}
	require.Less(t, time.Since(start), 4*time.Second)
	log.requireLogged(t, "cannot find out whether the topic is paused; fetching begins")
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = client.Subscribe(t.Context(), "t")
	require.NoError(t, err)
	requirePaused(t, client, true)
}
