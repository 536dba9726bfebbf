package pgmq

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// route is where the messages of a topic go: to the queues that are bound to it,
// one for each group of consumers, or else to the topic's own queue.
type route struct {
	queues          []string
	version         string // of the bindings; "" if this PGMQ has none
	insert          string // messages, headers, delays in µs, times, version
	insertOne       string // the same for a single message, with values instead of arrays; "" if there is none
	insertAndNotify string // the same, channel
	pooled          bool   // through a pooler, where nothing can stay prepared
}

// routes remembers the route of each topic. A route that has been overtaken is
// noticed by the statement that uses it: it stores nothing then.
type routes struct {
	catalog *catalog

	mu      sync.Mutex
	byTopic map[string]*route
}

func newRoutes(catalog *catalog) *routes {
	return &routes{catalog: catalog, byTopic: map[string]*route{}}
}

func (rs *routes) find(ctx context.Context, db DB, topic string, create creator) (*route, error) {
	rs.mu.Lock()
	known := rs.byTopic[topic]
	rs.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err := rs.look(ctx, db, topic, create)
	if err != nil {
		return nil, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	remember(rs.byTopic, topic, found)
	return found, nil
}

func (rs *routes) look(ctx context.Context, db DB, topic string, create creator) (*route, error) {
	queue, err := queueName(topic)
	if err != nil {
		return nil, err
	}
	layout, err := probe(ctx, db, queue)
	if err != nil {
		return nil, err
	}
	found := &route{pooled: layout.Pooled}
	if layout.Groups {
		bound, err := bindings(ctx, db, topic)
		if err != nil {
			return nil, err
		}
		found.queues, found.version = bound.Queues, bound.Version
	}
	if len(found.queues) == 0 {
		if err := rs.catalog.ensure(ctx, db, queue, create); err != nil {
			return nil, err
		}
		found.queues = []string{queue}
	}
	versioned := found.version != ""
	found.insert = insertInto(found.queues, versioned)
	found.insertAndNotify = notifying(found.insert, found.queues)
	if len(found.queues) == 1 {
		found.insert = insertOnly(found.queues[0], versioned)
		found.insertOne = insertOne(found.queues[0], versioned)
	}
	return found, nil
}

// forget is for a route that turned out to be wrong.
func (rs *routes) forget(topic string, wrong *route) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byTopic[topic] != wrong {
		return // somebody else has noticed too
	}
	delete(rs.byTopic, topic)
	for _, queue := range wrong.queues {
		rs.catalog.forget(queue)
	}
}

type bound struct {
	Queues  []string
	Version string
}

// bindingsVersion changes whenever a binding comes or goes.
const bindingsVersion = "(select count(*) || ' ' || coalesce(max(bound_at)::text, '') from pgmq.topic_bindings)"

// bindings returns the queues that are bound to topic, as pgmq.send_topic would
// find them, and the version of that answer.
func bindings(ctx context.Context, db DB, topic string) (bound, error) {
	rows, err := db.Query(ctx, `select array(
			select distinct lower(queue_name) from pgmq.topic_bindings where $1::text ~ compiled_regex order by 1), `+bindingsVersion,
		pgx.QueryExecModeCacheDescribe, routingKey(topic))
	if err != nil {
		return bound{}, bindingsDenied(err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[bound])
	return found, bindingsDenied(err)
}

func bindingsDenied(err error) error {
	if !isCode(err, "42501") {
		return err
	}
	return &Error{
		Kind: ErrPermission, Cause: withoutSecrets(err),
		Remedy: "let its owner run GRANT SELECT ON pgmq.topic_bindings TO the role, which tells the groups of a topic," +
			" besides GRANT INSERT on the queues to publish to, or SELECT, UPDATE, DELETE on those to consume",
	}
}

// insertInto returns the statement that stores messages in each of the queues.
//
// Where there can be groups, it stores nothing if the bindings are not those it
// was made for: a group that was bound a moment ago gets what is published now.
func insertInto(queues []string, versioned bool) string {
	var sql strings.Builder
	sql.WriteString("\nwith r as materialized (" + rowsSQL + unlessChanged(versioned) + ")")
	for i, queue := range queues {
		fmt.Fprintf(&sql, ",\ni%d as (insert into %s (vt, message, headers) select vt, message, headers from r)", i, tableName(queue))
	}
	sql.WriteString("\n" + storedSQL)
	return sql.String()
}

// insertOnly is insertInto for one queue, which needs no copy of the rows.
func insertOnly(queue string, versioned bool) string {
	return "insert into " + tableName(queue) + " (vt, message, headers)" + rowsSQL + unlessChanged(versioned)
}

// insertOne is insertOnly for one message.
func insertOne(queue string, versioned bool) string {
	return "insert into " + tableName(queue) + ` (vt, message, headers)
	select coalesce($4::timestamptz, clock_timestamp() + $3::bigint * interval '1 microsecond'), $1::text::jsonb, $2::text::jsonb` +
		unlessChanged(versioned)
}

func unlessChanged(versioned bool) string {
	if versioned {
		return "\n\twhere " + bindingsVersion + " = $5"
	}
	return "\n\twhere $5 = ''"
}

// clock_timestamp is taken for each row, so that vt rises within a batch as it
// does between batches, and messages are claimed in the order of publishing.
const rowsSQL = `
	select coalesce(t.at, clock_timestamp() + t.delay * interval '1 microsecond') as vt,
		t.message::jsonb as message, t.headers::jsonb as headers
	from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[]) as t(message, headers, delay, at)`

// storedSQL returns a row if anything is stored.
const storedSQL = "select 1 from r limit 1"

// notifying returns insert with a notification for each queue, if it stores
// anything.
func notifying(insert string, queues []string) string {
	calls := make([]string, len(queues))
	for i, queue := range queues {
		calls[i] = fmt.Sprintf("pg_notify($6, '%s')", queue) // a queue's name has no quotes
	}
	return strings.TrimSuffix(insert, storedSQL) + "select " + strings.Join(calls, ", ") + " from (" + storedSQL + ") as stored"
}
