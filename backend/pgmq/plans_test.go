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
var moments = map[string][]string{
	"never analysed":        {"{fill due}"},
	"fresh":                 {"{fill due}", "vacuum analyze {table}"},
	"of an empty old table": {"{fill due}", "{fill one later}", "delete from {table} where {time} <= now()", "vacuum analyze {table}", "{fill due}"},
	"when all was leased": {
		"{fill due}", "update {table} set {time} = now() + interval '1 hour' + random() * interval '1 s'{lease}", "vacuum analyze {table}", "{fill due}",
	},
	"when all was delayed": {"{fill later}", "vacuum analyze {table}", "{fill due}"},
	"when all was due":     {"{fill due}", "vacuum analyze {table}", "{fill later}", "{fill due}"},
}

// looked is a table that statements look at, and how it is filled.
type looked struct{ table, time, lease, fill string }

func lookedAt() []looked {
	const letter = `jsonb_build_object('topic_poisoned', 'back', 'ezq_queue', 'back')`
	return []looked{
		{"pgmq.q_t", "vt", ", read_ct = 1, last_read_at = now()", `(vt, message, headers) select {time}, '{}', ` + letter},
		{"pgmq.a_t", "archived_at", "", `(msg_id, vt, archived_at, message, headers)
			select -(random() * 9e18)::bigint, now(), {time}, '{}', ` + letter},
		{"pgmq.q_ezq_schedules", "vt", "", `(msg_id, vt, message) overriding system value
			select -(random() * 9e18)::bigint, {time}, '{}'`},
		{"seen", "until", "", "(key, until) select sha256(random()::text::bytea), {time}"},
	}
}

const moment = 12_000 // rows; more than Metrics counts

// pass makes the history of the table.
func (l looked) pass(t *testing.T, pool *pgxpool.Pool, statements []string) {
	t.Helper()
	fill := func(time string, n int) string {
		return "insert into {table} " + strings.ReplaceAll(l.fill, "{time}", time) + fmt.Sprintf(" from generate_series(1, %d) as g", n)
	}
	sql := strings.NewReplacer(
		"{fill due}", fill("clock_timestamp() - interval '1 hour' + g * interval '1 millisecond'", moment),
		"{fill later}", fill("now() + interval '1 day'", moment/2),
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
func TestWhatAStatementReadsDoesNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	for name, history := range moments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requirePlans(t, history, false)
		})
	}
	for _, name := range []string{"never analysed", "of an empty old table", "when all was leased"} {
		t.Run(name+", partitioned", func(t *testing.T) {
			t.Parallel()
			requirePlans(t, moments[name], true)
		})
	}
}

func requirePlans(t *testing.T, history []string, partitioned bool) {
	t.Helper()
	database := pgtest.Database(t)
	pool, explained := explaining(t, database)
	client, archive := clientOf(t, pool, false), clientOf(t, pool, true)
	require.NoError(t, client.SubscribeInitialize("t"))
	if partitioned {
		exec(t, pgtest.Pool(t, database), partitionedSQL)
	}
	require.NoError(t, client.SubscribeInitialize("ezq_schedules"))
	keys, err := client.KeyStore(t.Context(), "seen")
	require.NoError(t, err)
	for _, table := range lookedAt() {
		table.pass(t, pgtest.Pool(t, database), history)
	}
	explained.take()
	w := &witness{t: t, ctx: t.Context(), explained: explained}
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

// witness runs statements, and holds what they have read against what they were asked for.
type witness struct {
	t         *testing.T
	ctx       context.Context
	explained *explained
}

const asked = 100 // messages at a time

// saw requires that no part of what was executed has read much more than n rows. An
// incremental sort reads a few dozen ahead.
func (w *witness) saw(what string, n int, err error) {
	w.t.Helper()
	require.NoError(w.t, err, what)
	plans := w.explained.take()
	require.NotEmpty(w.t, plans, "what %s has executed", what)
	for _, p := range plans {
		if worst := p.Plan.worst(); worst.rows() > float64(2*n+100) {
			w.t.Errorf("%s reads %.0f rows for %d in a %s on %s:\n%s\n%s", what, worst.rows(), n, worst.Node, worst.Relation, p.Query, p.text)
		}
	}
}

func (w *witness) consume(client *Client) {
	w.t.Helper()
	s, err := client.subscriber.open(w.ctx, "t", false)
	require.NoError(w.t, err)
	w.explained.take()
	claim := func(settle ...subscription.Settlement) []subscription.Lease {
		claim, err := s.Claim(w.ctx, settle, asked, time.Minute)
		w.saw("a claim", asked, err)
		require.Len(w.t, claim.Leases, asked)
		return claim.Leases
	}
	leases := claim()
	leases = claim(settlements(leases, subscription.Ack)...)
	leases = claim(settlements(leases, subscription.DeadLetter)...)
	lost, err := s.Extend(w.ctx, tokensOf(settlements(leases, subscription.Ack)), time.Minute)
	w.saw("extending", asked, err)
	require.Empty(w.t, lost)
	_, err = s.Settle(w.ctx, settlements(leases, subscription.Nack))
	w.saw("a nack", asked, err)
	lostAcks := settlements(leases, subscription.Ack)
	for i := range lostAcks {
		lostAcks[i].Number++ // somebody else has leased it meanwhile
	}
	missed, err := s.Settle(w.ctx, lostAcks)
	w.saw("settling what was lost", asked, err)
	require.Len(w.t, missed.Lost, asked)
	_, err = s.Settle(w.ctx, settlements(claim(), subscription.Release))
	w.saw("a release", asked, err)
	w.hold(s)
	s.sieve.use()
	sifted, err := s.Claim(w.ctx, nil, asked, time.Minute)
	w.saw("a claim that sifts", asked, err)
	require.Len(w.t, sifted.Leases, asked)
	w.ackInTx(client, s.sql(), sifted.Leases[0].Token)
	s.quiet = true
	_, err = s.look(w.ctx)
	w.saw("a look", 1, err)
}

func (w *witness) hold(s *store) {
	w.t.Helper()
	held, claim, ok, err := s.Lock(w.ctx, asked, time.Minute)
	w.saw("a hold", asked, err)
	require.True(w.t, ok)
	require.Len(w.t, claim.Leases, asked)
	tokens := tokensOf(settlements(claim.Leases, subscription.Ack))
	_, err = held.Finish(w.ctx, tokens[:asked/2], tokens[asked/2:], time.Minute)
	w.saw("the end of a hold", asked, err)
}

// ackInTx acks in a transaction of the application, which has its own settings.
func (w *witness) ackInTx(client *Client, sql *statements, token subscription.Token) {
	w.t.Helper()
	tx, err := client.pool.Begin(w.ctx)
	require.NoError(w.t, err)
	err = (&receipt{sql: sql}).ack(w.ctx, tx, token)
	require.NoError(w.t, tx.Commit(w.ctx))
	w.saw("an ack in a transaction", 1, err)
}

func (w *witness) administer(client *Client, keys *KeyStore) {
	w.t.Helper()
	_, err := client.Metrics(w.ctx, "t")
	w.saw("Metrics", countLimit, err)
	exec(w.t, client.pool, "delete from pgmq.q_t where vt > now()") // Redrive goes by ids, and walks past each that is not due
	w.explained.take()
	letters, err := client.DeadLetters(w.ctx, "t", asked)
	w.saw("DeadLetters", asked, err)
	require.Len(w.t, letters, asked)
	heads, err := client.DeadLetterHeads(w.ctx, "t", asked)
	w.saw("DeadLetterHeads", asked, err)
	require.Len(w.t, heads, asked)
	_, err = client.Origins(w.ctx, "t", "back")
	w.saw("Origins", redriveBatch, err)
	exec(w.t, client.pool, "select pgmq.create('back')")
	w.explained.take()
	moved, err := client.Redrive(w.ctx, "t", asked, "back")
	w.saw("Redrive", asked, err)
	require.Equal(w.t, asked, moved)
	replayed, err := client.Replay(w.ctx, "t", ReplayFilter{Limit: asked})
	w.saw("Replay", asked, err)
	require.Equal(w.t, asked, replayed)
	_, err = client.PurgeArchive(w.ctx, "t", time.Now())
	w.saw("PurgeArchive", 1000, err)
	_, err = client.PurgeDeadLetters(w.ctx, "t", "other")
	require.ErrorIs(w.t, err, ErrStrays)
	w.saw("PurgeDeadLetters", 1000, nil)
	_, err = client.PurgeQueue(w.ctx, "t")
	w.saw("PurgeQueue", 1000, err)

	tick := backend.ScheduleTick{Schedule: "s", At: time.Now()}
	msg := message.NewMessage("1", nil)
	msg.SetContext(backend.WithScheduleTick(w.ctx, &tick))
	w.saw("a tick", 1, client.Publish("t", msg))
	_, err = keys.Seen(w.ctx, "k")
	w.saw("KeyStore.Seen", 1, err)
	w.saw("KeyStore.Mark", 2, keys.Mark(w.ctx, "k", time.Hour))
	seen, err := keys.Seen(w.ctx, "k")
	w.saw("KeyStore.Seen", 1, err)
	require.True(w.t, seen)
}

// Messages of one time come in the order of their ids, however many of them a claim takes, also
// where PostgreSQL has stored later ones before earlier ones.
func TestMessagesOfOneTimeComeInTheOrderOfTheirIDs(t *testing.T) {
	t.Parallel()
	const messages, atATime = 1000, 70
	for name, take := range map[string]func(s *store) (subscription.Claim, error){
		"leased": func(s *store) (subscription.Claim, error) { return s.Claim(t.Context(), nil, atATime, time.Minute) },
		"held": func(s *store) (subscription.Claim, error) {
			held, claim, _, err := s.Lock(t.Context(), atATime, time.Minute)
			if err == nil && held != nil {
				_, err = held.Finish(t.Context(), nil, tokensOf(settlements(claim.Leases, subscription.Ack)), time.Minute)
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

func settlements(leases []subscription.Lease, action subscription.Action) []subscription.Settlement {
	var all []subscription.Settlement
	for _, lease := range leases {
		s := subscription.Settlement{Token: lease.Token, Action: action, UUID: lease.Message.UUID}
		if action == subscription.DeadLetter {
			s.Disposition.Letter = &backend.DeadLetterTarget{Topic: "dead"}
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

// explained is what PostgreSQL has executed, as its module auto_explain tells.
type explained struct {
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

// explaining returns a pool whose connections tell what they execute, and so do those of the
// subscriptions that are made from it.
func explaining(t *testing.T, database string) (*pgxpool.Pool, *explained) {
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
	e := &explained{}
	config.ConnConfig.OnNotice = e.notice
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, e
}

func (e *explained) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
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
func (e *explained) take() []execution {
	e.mu.Lock()
	defer e.mu.Unlock()
	plans := e.plans
	e.plans = nil
	return plans
}
