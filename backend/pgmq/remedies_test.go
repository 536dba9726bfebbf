package pgmq_test

import (
	"log/slog"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Who follows a remedy that names the queue of the topic creates that, and then publishers
// fail that may not insert there.
func TestARemedyNamesTheQueueOfTheGroupAndNoOther(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
	own := get[string](t, pool, "select queue_name from pgmq.meta where queue_name like 't\\_g\\_%'")
	config := pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "g", NoCreate: true, Archive: true}}
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}")
	queue := openAt(t, role, config)
	remedyOf := func(err error) string {
		var failed *pgmq.Error
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, pgmq.ErrPermission)
		return failed.Remedy
	}

	_, err := queue.Metrics(t.Context(), "t")
	require.Equal(t, `let its owner run GRANT SELECT ON "pgmq"."q_`+own+`" TO the role`, remedyOf(err))
	_, err = queue.PurgeQueue(t.Context(), "t")
	require.Equal(t, `let its owner run GRANT SELECT, UPDATE, DELETE ON "pgmq"."q_`+own+`" TO the role`, remedyOf(err))

	execute(t, pool, `grant all on pgmq."q_`+own+`", pgmq."a_`+own+`" to public`)
	log := &everything{}
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	messages := subscribe(t, openAt(t, role, config))
	publish(t, openAt(t, database, pgmq.Config{}), "1")
	msg := receive(t, messages)
	execute(t, pool, `revoke all on pgmq."q_`+own+`" from public`)
	msg.Ack()
	log.requireLogged(t, `GRANT SELECT, UPDATE, DELETE ON \"pgmq\".\"q_`+own+`\" TO the role`)
	require.NotContains(t, log.String(), "pgmq.create")
	require.NotContains(t, log.String(), `q_t\"`)
}

// pgmq.create would make a queue that nothing is published to.
func TestAGroupThatIsMisspelledIsNotSaidToBeCreated(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "billing").SubscribeInitialize("t"))
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}")
	queue := openAt(t, role, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "biling", NoCreate: true}})
	_, err := queue.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, err, "check the name of the Group")
	require.NotContains(t, err.Error(), "pgmq.create")

	queue = openAt(t, role, pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "biling"}})
	_, err = queue.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "SubscribeInitialize")
	require.NotContains(t, err.Error(), "pgmq.create")
}

func TestATopicWithGroupsAsksForOneWhereItHasNoQueueOfItsOwn(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
	queue := openAt(t, database, pgmq.Config{})
	_, measured := queue.Metrics(t.Context(), "t")
	_, purged := queue.PurgeQueue(t.Context(), "t")
	_, replayed := queue.Replay(t.Context(), "t", pgmq.ReplayFilter{})
	_, listed := queue.DeadLetters(t.Context(), "t", 1)
	_, read := queue.ReadDeadLetter(t.Context(), "t", 1)
	_, emptied := queue.PurgeDeadLetters(t.Context(), "t", "t")
	for remedy, failures := range map[string][]error{
		"set SubscriberConfig.Group to one of them": {measured, purged, replayed}, `ask for "t_dead"`: {listed, read, emptied},
	} {
		for _, err := range failures {
			require.ErrorIs(t, err, pgmq.ErrGroupRequired)
			require.ErrorContains(t, err, remedy)
			require.NotContains(t, err.Error(), "pgmq.create")
		}
	}
	_, err := queue.Metrics(t.Context(), "other")
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, err, "SELECT pgmq.create('other')")
}

// What is not there, or may not be used, is the table that PostgreSQL names.
func TestARefusedDeadLetterNamesTheTableThatRefusesIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spoil, remedy string }{
		"nothing may be deleted from the source": {"revoke delete on pgmq.q_t from public", `GRANT DELETE ON \"pgmq\".\"q_t\" TO the role`},
		"nothing may be inserted": {
			"revoke insert on pgmq.q_t_dead from public", `GRANT INSERT (vt, message, headers) ON \"pgmq\".\"q_t_dead\" TO the role`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool := pgtest.Pool(t, database)
			execute(t, pool, "select pgmq.create('t'), pgmq.create('t_dead'); grant all on all tables in schema pgmq to public")
			log := &everything{}
			queue := openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}"), pgmq.Config{
				Logger: slog.New(slog.NewTextHandler(log, nil)), Subscriber: pgmq.SubscriberConfig{NoCreate: true},
			})
			messages := subscribe(t, queue)
			publish(t, queue, "1", "2")
			first, second := receive(t, messages), receive(t, messages)
			letter := backend.Letter{Topic: "t_dead", Metadata: message.Metadata{backend.DeadLetterReason: "no"}}
			backend.DeadLetter(first, letter)
			requireCount(t, pool, "pgmq.q_t_dead", 1)
			execute(t, pool, test.spoil)
			backend.DeadLetter(second, letter)
			log.requireLogged(t, test.remedy)
			require.NotContains(t, log.String(), "pgmq.create")
		})
	}
}
