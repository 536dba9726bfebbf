package pgtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Histories returns what was in a table when ANALYZE saw it last, and what is there now: due rows, or what
// stands for them, in each case.
func Histories() map[string][]string {
	return map[string][]string{
		"never analysed":        {"{fill due}"},
		"fresh":                 {"{fill due}", "vacuum analyze {table}"},
		"of an empty old table": {"{fill due}", "{fill one later}", "delete from {table} where {time} <= now()", "vacuum analyze {table}", "{fill due}"},
		"when all was leased": {
			"{fill due}", "update {table} set {time} = now() + interval '1 hour' + random() * interval '1 s'{lease}", "vacuum analyze {table}", "{fill due}",
		},
		"when all was delayed": {"{fill later}", "vacuum analyze {table}", "{fill due}"},
		"when all was due":     {"{fill due}", "vacuum analyze {table}", "{fill later}", "{fill due}"},
	}
}

// EachHistory runs a test with each of the [Histories], and with some of them on a partitioned queue too.
func EachHistory(t *testing.T, test func(t *testing.T, history []string, partitioned bool)) {
	t.Helper()
	histories := Histories()
	for name, history := range histories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, history, false)
		})
	}
	for _, name := range [...]string{"never analysed", "of an empty old table", "when all was leased"} {
		t.Run(name+", partitioned", func(t *testing.T) {
			t.Parallel()
			test(t, histories[name], true)
		})
	}
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

// MakeHistory makes a history of the tables that statements look at: the queue t and its archive, that of
// the schedules, and the table of keys. The queue is one of two partitions, if asked for.
func MakeHistory(tb testing.TB, database string, history []string, partitioned bool) {
	tb.Helper()
	pool := Pool(tb, database)
	if partitioned {
		Exec(tb, pool, partitionedSQL)
	}
	for _, table := range scannedTables() {
		table.applyHistory(tb, pool, history)
	}
}

// MakeQueueHistory makes a history of the queue t alone, and of its archive.
func MakeQueueHistory(tb testing.TB, database string, history []string) {
	tb.Helper()
	pool := Pool(tb, database)
	for _, table := range scannedTables()[:2] {
		table.applyHistory(tb, pool, history)
	}
}

// applyHistory makes the history of the table.
func (l scannedTable) applyHistory(tb testing.TB, pool *pgxpool.Pool, statements []string) {
	tb.Helper()
	fill := func(time string, n int) string {
		return "insert into {table} " + strings.ReplaceAll(l.fill, "{time}", time) + fmt.Sprintf(" from generate_series(1, %d) as g", n)
	}
	sql := strings.NewReplacer(
		"{fill due}", fill("clock_timestamp() - interval '1 hour' + g * interval '1 millisecond'", historyRows),
		"{fill later}", fill("now() + interval '1 day'", historyRows/2),
		"{fill one later}", fill("now() + interval '1 day'", 1),
		"{lease}", l.lease, "{time}", l.time)
	Exec(tb, pool, `do $$ declare r regclass; begin
		for r in select relid from pg_partition_tree('`+l.table+`') where isleaf loop
			execute format('alter table %s set (autovacuum_enabled = false)', r);
		end loop; end $$`)
	for _, s := range statements {
		Exec(tb, pool, strings.ReplaceAll(sql.Replace(s), "{table}", l.table))
	}
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

// Plans is what PostgreSQL has executed, as its module auto_explain tells.
type Plans struct {
	mu    sync.Mutex
	plans []execution
}

// Explain returns a pool whose connections tell what they execute, and so do those of the
// subscriptions that are made from it.
func Explain(tb testing.TB, database string) (*pgxpool.Pool, *Plans) {
	tb.Helper()
	if _, err := Pool(tb, database).Exec(tb.Context(), "load 'auto_explain'"); err != nil {
		tb.Skip("the server has no module auto_explain (a package like postgresql-contrib has it):", err)
	}
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		tb.Fatal("the database URL makes no sense") // err may quote the password
	}
	maps.Copy(config.ConnConfig.RuntimeParams, map[string]string{
		"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_level": "notice",
		"auto_explain.log_analyze": "on", "auto_explain.log_timing": "off", "auto_explain.log_format": "json",
	})
	e := &Plans{}
	config.ConnConfig.OnNotice = e.notice
	pool, err := pgxpool.NewWithConfig(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool, e
}

func (e *Plans) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	_, text, ok := strings.Cut(n.Message, "plan:\n")
	if !ok {
		return
	}
	found := execution{text: text}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		found = execution{Query: err.Error(), text: text, Plan: plan{Rows: 1e9, Loops: 1}} // fails each test that looks
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plans = append(e.plans, found)
}

// RequireFewRows requires that no part of what was executed has read much more than n rows. An
// incremental sort reads a few dozen ahead.
func (e *Plans) RequireFewRows(tb testing.TB, what string, n int, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
	plans := e.take()
	if len(plans) == 0 {
		tb.Fatalf("%s has executed nothing", what)
	}
	for _, p := range plans {
		if worst := p.Plan.worst(); worst.rows() > float64(2*n+100) {
			tb.Errorf("%s reads %.0f rows for %d in a %s on %s:\n%s\n%s", what, worst.rows(), n, worst.Node, worst.Relation, p.Query, p.text)
		}
	}
}

// Forget forgets what was executed until now.
func (e *Plans) Forget() { e.take() }

// take returns what was executed since the last call.
func (e *Plans) take() []execution {
	e.mu.Lock()
	defer e.mu.Unlock()
	plans := e.plans
	e.plans = nil
	return plans
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
