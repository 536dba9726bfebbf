package pgmq_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// steps is how often a topic is published to. In the middle, what comes while it is
// published to begins to come.
const steps = 6

// A deployment is what a topic has from the start, what comes besides, and when.
type deployment struct{ base, comes, when string }

func deployments() (all []deployment) {
	for _, base := range []string{"nothing", "own", "group", "pattern"} {
		for _, comes := range []string{"own", "group", "pattern", "binding", "wildcard"} {
			for _, when := range []string{"before", "after", "while"} {
				if base != comes {
					all = append(all, deployment{base, comes, when})
				}
			}
		}
	}
	return all
}

// wayToPublish is a way to publish that stores what it is given, once.
type wayToPublish func(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, topic string, ids ...string)

func waysToPublish() map[string]wayToPublish {
	messages := func(ids []string) (all []*message.Message) {
		for _, id := range ids {
			all = append(all, message.NewMessage(id, nil))
		}
		return all
	}
	return map[string]wayToPublish{
		"events are published one by one": func(t *testing.T, client *pgmq.Client, _ *pgxpool.Pool, topic string, ids ...string) {
			for _, msg := range messages(ids) {
				require.NoError(t, client.Publish(topic, msg))
			}
		},
		"events are published in a batch": func(t *testing.T, client *pgmq.Client, _ *pgxpool.Pool, topic string, ids ...string) {
			require.NoError(t, client.Publish(topic, messages(ids)...))
		},
		"events are published in a transaction": func(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, topic string, ids ...string) {
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				return client.WithTx(tx).Publish(topic, messages(ids)...)
			}))
		},
		"an event is published as a tick": func(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, topic string, ids ...string) {
			for _, outcome := range []backend.TickOutcome{backend.TickTaken, backend.TickPublished} {
				tick := &backend.ScheduleTick{Schedule: topic + ids[0], At: time.Now().Add(-time.Hour)} // a schedule begins with a tick that is taken
				if outcome == backend.TickPublished {
					tick.At = get[time.Time](t, pool, "select clock_timestamp()")
				}
				all := messages(ids)
				all[0].SetContext(backend.WithScheduleTick(t.Context(), tick))
				require.NoError(t, client.Publish(topic, all...))
				result, _ := tick.Result()
				require.Equal(t, outcome, result.Outcome)
			}
		},
	}
}

func TestGroup_LosesNothingInAnyDeploymentOrder(t *testing.T) {
	t.Parallel()
	for name, publish := range waysToPublish() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			env := &deploymentEnv{
				t: t, pool: pgtest.Pool(t, database), publish: publish,
				publisher: openAt(t, database, pgmq.Config{}), plain: openAt(t, database, pgmq.Config{}), grouped: group(t, database, "g"),
			}
			for i, d := range deployments() {
				t.Logf("%s there, %s comes, %s", d.base, d.comes, d.when)
				env.check(fmt.Sprintf("topic%d.created", i), d)
			}
		})
	}
}

type deploymentEnv struct {
	t                         *testing.T
	pool                      *pgxpool.Pool
	publish                   wayToPublish
	publisher, plain, grouped *pgmq.Client // processes
}

func (env *deploymentEnv) check(topic string, d deployment) {
	env.t.Helper()
	env.install(topic, d.base)
	from := map[string]int{"own": steps, "group": steps, "pattern": steps, "audit": steps} // which steps must be there
	from[d.base] = 0
	came := env.run(topic, d)
	for _, queue := range []string{d.comes, "audit"} {
		if queue == d.comes || d.comes == "binding" || d.comes == "wildcard" {
			from[queue] = min(from[queue], came)
		}
	}
	isGroup := func(what string) bool { return what == "group" || what == "pattern" }
	if !isGroup(d.base) && (!isGroup(d.comes) || d.when != "before") {
		from["own"] = 0 // the topic had no groups when it was first published to
	}
	for _, queue := range []string{"own", "group", "pattern", "audit"} {
		env.requireSteps(topic, queue, from[queue])
	}
}

// run publishes the steps, and returns the first of them that began when d.comes was there.
func (env *deploymentEnv) run(topic string, d deployment) (from int) {
	from = steps
	if d.when == "before" {
		env.install(topic, d.comes)
		from = 0
	}
	installed := make(chan struct{})
	for step := range steps {
		if step == steps/2 && d.when == "while" {
			go func() {
				defer close(installed)
				env.install(topic, d.comes)
			}()
		}
		if step == steps-1 && d.when == "while" {
			<-installed
		}
		select {
		case <-installed:
			from = min(from, step)
		default:
		}
		env.publish(env.t, env.publisher, env.pool, topic, fmt.Sprintf("%d a", step), fmt.Sprintf("%d b", step))
	}
	if d.when == "after" {
		env.install(topic, d.comes)
	}
	return from
}

// install prepares what a deployment brings. Any goroutine may call it.
func (env *deploymentEnv) install(topic, what string) {
	switch what {
	case "own":
		assert.NoError(env.t, env.plain.SubscribeInitialize(topic))
	case "group":
		assert.NoError(env.t, env.grouped.SubscribeInitialize(topic))
	case "pattern":
		assert.NoError(env.t, env.grouped.SubscribeInitialize(patternOf(topic)))
	case "binding", "wildcard":
		audit := env.nameOf(topic, "audit")
		pattern := topic
		if what == "wildcard" {
			pattern = patternOf(topic)
		}
		_, err := env.pool.Exec(env.t.Context(), fmt.Sprintf("select pgmq.create('%[1]s'); select pgmq.bind_topic('%[2]s', '%[1]s')", audit, pattern))
		assert.NoError(env.t, err)
	}
}

// patternOf returns a pattern that topic matches, and no other one does.
func patternOf(topic string) string { return strings.TrimSuffix(topic, "created") + "*" }

func (env *deploymentEnv) nameOf(topic, queue string) string {
	own, err := pgmq.QueueName(topic)
	assert.NoError(env.t, err)
	switch queue {
	case "own":
		return own
	case "group", "pattern":
		if queue == "pattern" {
			topic = patternOf(topic)
		}
		name, err := pgmq.GroupQueueName(topic, "g")
		assert.NoError(env.t, err)
		return name
	default:
		return "audit_" + own[len(own)-10:]
	}
}

// requireSteps requires that the steps since from are in queue, and nothing twice.
func (env *deploymentEnv) requireSteps(topic, queue string, from int) {
	env.t.Helper()
	table := "pgmq.q_" + env.nameOf(topic, queue)
	var stored []string
	if get[bool](env.t, env.pool, "select to_regclass($1) is not null", table) {
		stored = get[[]string](env.t, env.pool, "select array(select headers->>'ezq_uuid' from "+table+" order by msg_id)")
	}
	for step := from; step < steps; step++ {
		require.Contains(env.t, stored, fmt.Sprintf("%d a", step), queue)
		require.Contains(env.t, stored, fmt.Sprintf("%d b", step), queue)
	}
	require.Len(env.t, slices.Compact(slices.Sorted(slices.Values(stored))), len(stored), "%s has a message twice", queue)
}

func TestGroup_IsRequiredOnTopicWithGroups(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]pgmq.SubscriberConfig{"the consumer may create queues": {}, "the consumer may not create queues": {NoCreate: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			require.NoError(t, group(t, database, "g").SubscribeInitialize("t"))
			publisher := openAt(t, database, pgmq.Config{})
			publish(t, publisher, "before")
			plain := openAt(t, database, pgmq.Config{Subscriber: config})
			for range 2 {
				_, err := plain.Subscribe(t.Context(), "t")
				require.ErrorIs(t, err, pgmq.ErrGroupRequired)
				require.ErrorContains(t, err, `"t"`)
				require.ErrorContains(t, err, "SubscribeInitialize")
			}
			publish(t, publisher, "still before")
			require.NoError(t, openAt(t, database, pgmq.Config{}).SubscribeInitialize("t"))
			publish(t, publisher, "after")
			requireReceives(t, subscribe(t, plain), "after")
			requireReceives(t, subscribe(t, group(t, database, "g")), "before", "still before", "after")
		})
	}
}

func TestGroup_IgnoresForeignBindings(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, `select pgmq.create('audit'), pgmq.create('other_h0123456789abcdef0123');
		select pgmq.bind_topic('#', 'audit'), pgmq.bind_topic('*', 'other_h0123456789abcdef0123')`)
	publisher := openAt(t, database, pgmq.Config{})
	publish(t, publisher, "waits for its subscriber")
	requireReceives(t, subscribe(t, openAt(t, database, pgmq.Config{})), "waits for its subscriber")
	requireCount(t, pool, "pgmq.q_audit", 1)

	strict := openAt(t, database, pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: true}})
	err := strict.Publish("new", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound, "the audit gets a copy, and no more than that")
	requireCount(t, pool, "pgmq.q_audit", 1)
}

func TestGroup_HalfCreatedTakesNothingAway(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	client := openAt(t, database, pgmq.Config{})
	messages := subscribe(t, client)
	name, err := pgmq.GroupQueueName("t", "g")
	require.NoError(t, err)
	publish(t, client, "before")
	execute(t, pool, fmt.Sprintf("select pgmq.create('%[1]s'); select pgmq.bind_topic('t', '%[1]s')", name)) // as if it died here
	publish(t, client, "meanwhile")
	requireReceives(t, messages, "before", "meanwhile")
	requireReceives(t, subscribe(t, group(t, database, "g")), "meanwhile")
	execute(t, pool, "drop table pgmq.q_"+name) // and its binding is left
	publish(t, client, "after")
	requireReceives(t, messages, "after")
}

func TestGroup_LogsMessagesItMissed(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	publish(t, openAt(t, database, pgmq.Config{}), "a", "b")
	for _, test := range []struct {
		group, level string
	}{{"late", "WARN"}, {"late", ""}, {"later", "WARN"}} {
		var log bytes.Buffer
		client := openAt(t, database, pgmq.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Subscriber: pgmq.SubscriberConfig{Group: test.group}})
		require.NoError(t, client.SubscribeInitialize("t"))
		if test.level == "" {
			require.NotContains(t, log.String(), "was not bound to the topic until now")
			continue
		}
		require.Contains(t, log.String(), "was not bound to the topic until now")
		require.Contains(t, log.String(), "level="+test.level)
		require.Contains(t, log.String(), "group="+test.group)
		require.Contains(t, log.String(), "waiting=2")
	}
}

func TestBindings_ChangesAreNoticedDespiteOldTimestamps(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, client := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{})
	execute(t, pool, "select pgmq.create('x'), pgmq.create('y'), pgmq.create('z'); select pgmq.bind_topic('t', 'y')")
	old, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = old.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = old.Exec(t.Context(), "select now()")
	require.NoError(t, err)
	execute(t, pool, "select pgmq.bind_topic('t', 'x')")
	publish(t, client, "1")
	_, err = old.Exec(t.Context(), "select pgmq.unbind_topic('t', 'y'), pgmq.bind_topic('t', 'z')")
	require.NoError(t, err)
	require.NoError(t, old.Commit(t.Context()))
	publish(t, client, "2")
	requireCount(t, pool, "pgmq.q_y", 1)
	requireCount(t, pool, "pgmq.q_z", 1)
}

// PGMQ before 1.11 has no bindings. The update makes them, while programs run.
func TestPublisher_SeesGroupsAfterPGMQUpdate(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "alter table pgmq.topic_bindings rename to not_yet")
	publisher := openAt(t, database, pgmq.Config{})
	plain := subscribe(t, openAt(t, database, pgmq.Config{}))
	publish(t, publisher, "before")
	require.NoError(t, publishInTx(t, database, publisher))
	execute(t, pool, "alter table pgmq.not_yet rename to topic_bindings")
	grouped := subscribe(t, group(t, database, "g"))
	publish(t, publisher, "after")
	require.NoError(t, publishInTx(t, database, publisher))
	requireReceives(t, grouped, "after", "1")
	requireReceives(t, plain, "before", "1", "after", "1")
}

func TestPublisher_NamesQueueMissingGrant(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "select pgmq.create('t'), pgmq.create('audit'); select pgmq.bind_topic('#', 'audit')")
	url := pgtest.Role(t, database, "grant usage on schema pgmq to {role}; grant select on pgmq.topic_bindings to {role}; grant insert on pgmq.q_t to {role}")
	client := openAt(t, url, pgmq.Config{})
	err := client.Publish("t", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, `GRANT INSERT (vt, message, headers) ON "pgmq"."q_audit" TO`)
	execute(t, pool, "grant insert on pgmq.q_audit to public")
	publish(t, client, "2")
	execute(t, pool, "revoke insert on pgmq.q_audit from public")
	err = client.Publish("t", message.NewMessage("3", nil)) // with what it knows
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, `"pgmq"."q_audit"`)
	execute(t, pool, "select pgmq.unbind_topic('#', 'audit')")
	publish(t, client, "4")
	requireCount(t, pool, "pgmq.q_t", 2)
}
