package pgmq

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// What was in a table when ANALYZE saw it last, and what is there now: {n} due rows, or what
// stands for them, in each case.
var statisticsHistories = map[string][]string{
	"never analysed":        {"{fill due}"},
	"fresh":                 {"{fill due}", "vacuum analyze {table}"},
	"of an empty old table": {"{fill due}", "{fill one later}", "delete from {table} where {time} <= now()", "vacuum analyze {table}", "{fill due}"},
	"when all was leased": {
		"{fill due}", "update {table} set {time} = now() + interval '1 hour' + random() * interval '1 s'{lease}", "vacuum analyze {table}", "{fill due}",
	},
	"when all was delayed": {"{fill later}", "vacuum analyze {table}", "{fill due}"},
	"when all was due":     {"{fill due}", "vacuum analyze {table}", "{fill later}", "{fill due}"},
}

// scannedTable is a table that statements look at, and how it is filled.
type scannedTable struct{ table, time, lease, fill string }

func scannedTables() []scannedTable {
	const letter = `jsonb_build_object('topic_poisoned', 'back', 'ezq_queue', 'back')`
	return []scannedTable{
		{"pgmq.q_t", "vt", ", read_ct = 1, last_read_at = now()", `(vt, message, headers) select {time}, '{}', ` + letter},
		{"pgmq.a_t", "archived_at", "", `(msg_id, vt, archived_at, message, headers)
			select -(random() * 9e18)::bigint, now(), {time}, '{}', ` + letter},
		{"pgmq.q_ezq_schedules", "vt", "", `(msg_id, vt, message) overriding system value
			select -(random() * 9e18)::bigint, {time}, '{}'`},
		{"seen", "until", "", "(key, until) select sha256(random()::text::bytea), {time}"},
	}
}

const historyRows = 12_000 // rows; more than Metrics counts

// applyHistory makes the history of the table.
func (l scannedTable) applyHistory(t *testing.T, pool *pgxpool.Pool, statements []string) {
	t.Helper()
	fill := func(time string, n int) string {
		return "insert into {table} " + strings.ReplaceAll(l.fill, "{time}", time) + fmt.Sprintf(" from generate_series(1, %d) as g", n)
	}
	sql := strings.NewReplacer(
		"{fill due}", fill("clock_timestamp() - interval '1 hour' + g * interval '1 millisecond'", historyRows),
		"{fill later}", fill("now() + interval '1 day'", historyRows/2),
		"{fill one later}", fill("now() + interval '1 day'", 1),
		"{lease}", l.lease, "{time}", l.time)
	exec(t, pool, `do $$ declare r regclass; begin
		for r in select relid from pg_partition_tree('`+l.table+`') where isleaf loop
			execute format('alter table %s set (autovacuum_enabled = false)', r);
		end loop; end $$`)
	for _, s := range statements {
		exec(t, pool, strings.ReplaceAll(sql.Replace(s), "{table}", l.table))
	}
}

// The cost of a statement follows from what it asks for, and not from what ANALYZE happened to
// see. Each runs as ezq runs it; PostgreSQL says what its plan has read.
func TestPlans_DoNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	for name, history := range statisticsHistories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requirePlans(t, history, false)
		})
	}
	for _, name := range []string{"never analysed", "of an empty old table", "when all was leased"} {
		t.Run(name+", partitioned", func(t *testing.T) {
			t.Parallel()
			requirePlans(t, statisticsHistories[name], true)
		})
	}
}

func requirePlans(t *testing.T, history []string, partitioned bool) {
	t.Helper()
	database := pgtest.Database(t)
	pool, plans := openExplaining(t, database)
	client, archive := clientOf(t, pool, false), clientOf(t, pool, true)
	require.NoError(t, client.SubscribeInitialize("t"))
	if partitioned {
		exec(t, pgtest.Pool(t, database), partitionedSQL)
	}
	require.NoError(t, client.SubscribeInitialize("ezq_schedules"))
	keys, err := client.KeyStore(t.Context(), "seen")
	require.NoError(t, err)
	for _, table := range scannedTables() {
		table.applyHistory(t, pgtest.Pool(t, database), history)
	}
	plans.take()
	w := &planChecker{t: t, ctx: t.Context(), plans: plans}
	w.consume(client)
	w.consume(archive)
	w.administer(client, keys)
}

// partitionedSQL makes the queue t one of two partitions, as pg_partman does.
const partitionedSQL = `
	alter table pgmq.q_t rename to template;
	create table pgmq.q_t (like pgmq.template including defaults including identity) partition by range (msg_id);
	create table pgmq.low partition of pgmq.q_t for values from (minvalue) to (6000);
	create table pgmq.high partition of pgmq.q_t for values from (6000) to (maxvalue);
	alter table pgmq.q_t add primary key (msg_id);
	create index on pgmq.q_t (vt);
	drop table pgmq.template`

// planChecker runs statements, and holds what they have read against what they were asked for.
type planChecker struct {
	t     *testing.T
	ctx   context.Context
	plans *planLog
}

const claimLimit = 100 // messages at a time

// requireFewRows requires that no part of what was executed has read much more than n rows. An
// incremental sort reads a few dozen ahead.
func (w *planChecker) requireFewRows(what string, n int, err error) {
	w.t.Helper()
	require.NoError(w.t, err, what)
	plans := w.plans.take()
	require.NotEmpty(w.t, plans, "what %s has executed", what)
	for _, p := range plans {
		if worst := p.Plan.worst(); worst.rows() > float64(2*n+100) {
			w.t.Errorf("%s reads %.0f rows for %d in a %s on %s:\n%s\n%s", what, worst.rows(), n, worst.Node, worst.Relation, p.Query, p.text)
		}
	}
}

func (w *planChecker) consume(client *Client) {
	w.t.Helper()
	s, err := client.subscriber.open(w.ctx, "t", false)
	require.NoError(w.t, err)
	w.plans.take()
	claim := func(settle ...subscription.Settlement) []subscription.Lease {
		claim, err := s.Claim(w.ctx, settle, claimLimit, time.Minute)
		w.requireFewRows("a claim", claimLimit, err)
		require.Len(w.t, claim.Leases, claimLimit)
		return claim.Leases
	}
	leases := claim()
	leases = claim(settlementsOf(leases, subscription.Ack)...)
	leases = claim(settlementsOf(leases, subscription.DeadLetter)...)
	lost, err := s.Extend(w.ctx, tokensOf(settlementsOf(leases, subscription.Ack)), time.Minute)
	w.requireFewRows("extending", claimLimit, err)
	require.Empty(w.t, lost)
	_, err = s.Settle(w.ctx, settlementsOf(leases, subscription.Nack))
	w.requireFewRows("a nack", claimLimit, err)
	lostAcks := settlementsOf(leases, subscription.Ack)
	for i := range lostAcks {
		lostAcks[i].Number++ // somebody else has leased it meanwhile
	}
	missed, err := s.Settle(w.ctx, lostAcks)
	w.requireFewRows("settling what was lost", claimLimit, err)
	require.Len(w.t, missed.Lost, claimLimit)
	_, err = s.Settle(w.ctx, settlementsOf(claim(), subscription.Release))
	w.requireFewRows("a release", claimLimit, err)
	w.lock(s)
	s.claims.screening.activate()
	sifted, err := s.Claim(w.ctx, nil, claimLimit, time.Minute)
	w.requireFewRows("a claim that sifts", claimLimit, err)
	require.Len(w.t, sifted.Leases, claimLimit)
	w.ackInTx(client, s.queue.sql(), sifted.Leases[0].Token)
	s.claims.idle = true
	_, err = s.claims.untilDue(w.ctx)
	w.requireFewRows("a look", 1, err)
}

func (w *planChecker) lock(s *store) {
	w.t.Helper()
	locked, claim, ok, err := s.Lock(w.ctx, claimLimit, time.Minute)
	w.requireFewRows("a hold", claimLimit, err)
	require.True(w.t, ok)
	require.Len(w.t, claim.Leases, claimLimit)
	tokens := tokensOf(settlementsOf(claim.Leases, subscription.Ack))
	_, err = locked.Finish(w.ctx, tokens[:claimLimit/2], tokens[claimLimit/2:], time.Minute)
	w.requireFewRows("the end of a hold", claimLimit, err)
}

// ackInTx acks in a transaction of the application, which has its own settings.
func (w *planChecker) ackInTx(client *Client, sql *statements, token subscription.Token) {
	w.t.Helper()
	tx, err := client.pool.Begin(w.ctx)
	require.NoError(w.t, err)
	err = (&receipt{sql: sql}).ack(w.ctx, tx, token)
	require.NoError(w.t, tx.Commit(w.ctx))
	w.requireFewRows("an ack in a transaction", 1, err)
}

func (w *planChecker) administer(client *Client, keys *KeyStore) {
	w.t.Helper()
	_, err := client.Metrics(w.ctx, "t")
	w.requireFewRows("Metrics", countLimit, err)
	exec(w.t, client.pool, "delete from pgmq.q_t where vt > now()") // Redrive goes by ids, and walks past each that is not due
	w.plans.take()
	deadLetters, err := client.DeadLetters(w.ctx, "t", claimLimit)
	w.requireFewRows("DeadLetters", claimLimit, err)
	require.Len(w.t, deadLetters, claimLimit)
	heads, err := client.DeadLetterHeads(w.ctx, "t", claimLimit)
	w.requireFewRows("DeadLetterHeads", claimLimit, err)
	require.Len(w.t, heads, claimLimit)
	_, err = client.Origins(w.ctx, "t", "back")
	w.requireFewRows("Origins", redriveBatch, err)
	exec(w.t, client.pool, "select pgmq.create('back')")
	w.plans.take()
	moved, err := client.Redrive(w.ctx, "t", claimLimit, "back")
	w.requireFewRows("Redrive", claimLimit, err)
	require.Equal(w.t, claimLimit, moved)
	replayed, err := client.Replay(w.ctx, "t", ReplayFilter{Limit: claimLimit})
	w.requireFewRows("Replay", claimLimit, err)
	require.Equal(w.t, claimLimit, replayed)
	_, err = client.PurgeArchive(w.ctx, "t", time.Now())
	w.requireFewRows("PurgeArchive", 1000, err)
	_, err = client.PurgeDeadLetters(w.ctx, "t", "other")
	require.ErrorIs(w.t, err, ErrStrays)
	w.requireFewRows("PurgeDeadLetters", 1000, nil)
	_, err = client.PurgeQueue(w.ctx, "t")
	w.requireFewRows("PurgeQueue", 1000, err)

	tick := backend.ScheduleTick{Schedule: "s", At: time.Now()}
	msg := message.NewMessage("1", nil)
	msg.SetContext(backend.WithScheduleTick(w.ctx, &tick))
	w.requireFewRows("a tick", 1, client.Publish("t", msg))
	_, err = keys.Seen(w.ctx, "k")
	w.requireFewRows("KeyStore.Seen", 1, err)
	w.requireFewRows("KeyStore.Mark", 2, keys.Mark(w.ctx, "k", time.Hour))
	seen, err := keys.Seen(w.ctx, "k")
	w.requireFewRows("KeyStore.Seen", 1, err)
	require.True(w.t, seen)
}

// Messages of one time come in the order of their ids, however many of them a claim takes, also
// where PostgreSQL has stored later ones before earlier ones.
func TestClaim_OrdersEqualTimesByID(t *testing.T) {
	t.Parallel()
	const messages, atATime = 1000, 70
	for name, take := range map[string]func(s *store) (subscription.Claim, error){
		"leased": func(s *store) (subscription.Claim, error) { return s.Claim(t.Context(), nil, atATime, time.Minute) },
		"held": func(s *store) (subscription.Claim, error) {
			locked, claim, _, err := s.Lock(t.Context(), atATime, time.Minute)
			if err == nil && locked != nil {
				_, err = locked.Finish(t.Context(), nil, tokensOf(settlementsOf(claim.Leases, subscription.Ack)), time.Minute)
			}
			return claim, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.Database(t))
			s, err := clientOf(t, pool, false).subscriber.open(t.Context(), "t", false)
			require.NoError(t, err)
			exec(t, pool, "alter table pgmq.q_t set (autovacuum_enabled = false)")
			exec(t, pool, "insert into pgmq.q_t (vt, message) select now() + interval '1 day', '{}' from generate_series(1, 3000)")
			for _, early := range []string{"msg_id between 1501 and 2900", "msg_id < 1500"} { // VACUUM makes room for half of them before the others
				exec(t, pool, "delete from pgmq.q_t where vt > now() and "+early)
				exec(t, pool, "vacuum analyze pgmq.q_t")
				exec(t, pool, fmt.Sprintf("select pgmq.send_batch('t', array_fill('{}'::jsonb, array[%d]), '2020-01-01'::timestamptz)", messages/2))
			}
			var inOrder bool
			require.NoError(t, pool.QueryRow(t.Context(), `select bool_and(msg_id > before) from (
				select msg_id, lag(msg_id) over (order by ctid) as before from pgmq.q_t where vt <= now()) as m`).Scan(&inOrder))
			require.False(t, inOrder, "the messages lie in the order of their ids")

			for last, taken := int64(3000), 0; taken < messages; {
				claim, err := take(s)
				require.NoError(t, err)
				require.NotEmpty(t, claim.Leases)
				for _, lease := range claim.Leases {
					last++
					require.Equal(t, last, lease.ID)
				}
				taken += len(claim.Leases)
			}
		})
	}
}

func settlementsOf(leases []subscription.Lease, action subscription.Action) []subscription.Settlement {
	var all []subscription.Settlement
	for _, lease := range leases {
		s := subscription.Settlement{Token: lease.Token, Action: action, UUID: lease.Message.UUID}
		if action == subscription.DeadLetter {
			s.Disposition.DeadLetter = &backend.DeadLetterTarget{Topic: "dead"}
		}
		all = append(all, s)
	}
	return all
}

func clientOf(t *testing.T, pool *pgxpool.Pool, archive bool) *Client {
	t.Helper()
	client, err := New(pool, &Config{Subscriber: SubscriberConfig{Archive: archive}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// planLog is what PostgreSQL has executed, as its module auto_explain tells.
type planLog struct {
	mu    sync.Mutex
	plans []execution
}

type execution struct {
	Query string `json:"Query Text"`
	Plan  plan   `json:"Plan"`
	text  string
}

type plan struct {
	Node     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"` // of each loop
	Loops    float64 `json:"Actual Loops"`
	Filtered float64 `json:"Rows Removed by Filter"`
	Joined   float64 `json:"Rows Removed by Join Filter"`
	Plans    []plan  `json:"Plans"`
}

func (p plan) rows() float64 { return (p.Rows + p.Filtered + p.Joined) * p.Loops }

// worst returns the part of the plan that has gone through the most rows.
func (p plan) worst() plan {
	worst := p
	for _, part := range p.Plans {
		if part := part.worst(); part.rows() > worst.rows() {
			worst = part
		}
	}
	return worst
}

// openExplaining returns a pool whose connections tell what they execute, and so do those of the
// subscriptions that are made from it.
func openExplaining(t *testing.T, database string) (*pgxpool.Pool, *planLog) {
	t.Helper()
	if _, err := pgtest.Pool(t, database).Exec(t.Context(), "load 'auto_explain'"); err != nil {
		t.Skip("the server has no module auto_explain (a package like postgresql-contrib has it):", err)
	}
	config, err := pgxpool.ParseConfig(database)
	require.NoError(t, err)
	maps.Copy(config.ConnConfig.RuntimeParams, map[string]string{
		"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_level": "notice",
		"auto_explain.log_analyze": "on", "auto_explain.log_timing": "off", "auto_explain.log_format": "json",
	})
	e := &planLog{}
	config.ConnConfig.OnNotice = e.notice
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, e
}

func (e *planLog) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	_, text, ok := strings.Cut(n.Message, "plan:\n")
	if !ok {
		return
	}
	found := execution{text: text}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		found = execution{Query: err.Error(), text: text, Plan: plan{Rows: 1e9, Loops: 1}} // fails whoever looks
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plans = append(e.plans, found)
}

// take returns what was executed since the last call.
func (e *planLog) take() []execution {
	e.mu.Lock()
	defer e.mu.Unlock()
	plans := e.plans
	e.plans = nil
	return plans
}
