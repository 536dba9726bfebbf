package pgmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// route is where the messages of a topic go: to the queues that are bound to it, and
// to the topic's own queue if that exists, bound or not. A binding makes a copy; it
// takes nothing away from the consumers of the topic.
//
// Only a topic that has groups needs no queue of its own.
type route struct {
	queues          []string
	absent          []string // queues that would get the messages, too, and do not exist
	version         string   // of the bindings; "" if this PGMQ has none
	insert          string   // messages, headers, delays in µs, times, version
	insertOne       string   // the same for a single message, with values instead of arrays; "" if there is none
	insertAndNotify string   // the same, channel
	insertNew       string   // the same, IDs or "", window in µs: see [conditionalInsert]
	insertUnique    string   // messages, headers, delays in µs, times, version, key
	replace         string   // the same, longest time in µs
	pooled          bool     // through a pooler, where nothing can stay prepared

	own     string       // the topic's own queue, whether it exists or not
	indexed atomic.Int64 // until when, in Unix time, each queue has an index of keys, or does without
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

func (rs *routes) find(ctx context.Context, db DBTX, topic string, create creator) (*route, error) {
	rs.mu.Lock()
	known := rs.byTopic[topic]
	rs.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err := rs.lookUp(ctx, db, topic, create)
	if err != nil {
		return nil, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	setBounded(rs.byTopic, topic, found)
	return found, nil
}

func (rs *routes) lookUp(ctx context.Context, db DBTX, topic string, create creator) (*route, error) {
	own, err := queueName(topic)
	if err != nil {
		return nil, err
	}
	const attempts = 5
	for range attempts {
		found, err := rs.lookUpOnce(ctx, db, topic, own, create)
		if !errors.Is(err, errHasGroups) {
			return found, err
		}
	}
	return nil, errBindings
}

func (rs *routes) lookUpOnce(ctx context.Context, db DBTX, topic, own string, create creator) (*route, error) {
	layout, err := probe(ctx, db, own)
	if err != nil {
		return nil, err
	}
	found := &route{pooled: layout.Pooled, own: own}
	var bound topicBindings
	if layout.Groups {
		if bound, err = bindings(ctx, db, topic); err != nil {
			return nil, err
		}
		found.queues, found.absent, found.version = bound.Queues, bound.Absent, bound.Version
	}
	switch {
	case slices.Contains(found.queues, own):
	case layout.exists():
		found.queues = append(found.queues, own)
		if !layout.Publish {
			bound.Denied = append(bound.Denied, own)
		}
	case bound.Grouped:
		found.absent = append(found.absent, own)
	default:
		if _, err := rs.catalog.createOwn(ctx, topic, own, create, layout.Groups); err != nil {
			return nil, err
		}
		found.queues = append(found.queues, own)
	}
	if len(bound.Denied) > 0 {
		return nil, publishDenied(topic, bound.Denied)
	}
	if err := found.checkOwners(ctx, db, own, create == nil); err != nil {
		return nil, err
	}
	found.prepare()
	return found, nil
}

// checkOwners returns an error if a queue would run the code of an untrusted role.
// Where an administrator creates the queues, the owner of the topic's own queue
// is trusted.
func (r *route) checkOwners(ctx context.Context, db DBTX, own string, administered bool) error {
	vouchingTable := ""
	switch {
	case administered && !slices.Contains(r.queues, own):
		return nil
	case administered:
		vouchingTable = tableName(own)
	}
	tables := make([]string, len(r.queues))
	for i, queue := range r.queues {
		tables[i] = tableName(queue)
	}
	found, err := untrustedTables(ctx, db, tables, vouchingTable)
	for _, s := range found {
		err = firstError(err, s.codeError())
	}
	return err
}

// prepare makes the statements.
func (r *route) prepare() {
	r.insert = insertInto(r.queues, r.unlessChanged())
	r.insertAndNotify = notifying(r.insert, r.queues)
	if len(r.queues) == 1 {
		r.insert = insertOnly(r.queues[0], r.unlessChanged())
		r.insertOne = insertOne(r.queues[0], r.unlessChanged())
	}
	r.insertNew = insertNew(r.queues, r.unlessChanged())
	r.insertUnique = insertUnique(r.queues, r.unlessChanged())
	r.replace = replaceOrInsert(r.queues, r.unlessChanged())
}

// unlessChanged is the condition on which the route is still right: the bindings are
// those that it was made for, and what did not exist still does not. PostgreSQL decides
// that once for a statement, whatever the number of messages.
func (r *route) unlessChanged() string {
	condition := "$5 = '' and to_regclass('pgmq.topic_bindings') is null"
	if r.version != "" {
		condition = bindingsVersion + " = $5"
	}
	for _, queue := range r.absent {
		condition += " and to_regclass('" + tableName(queue) + "') is null" // a queue's name has no quotes
	}
	return "\n\twhere " + condition
}

// forget is for a route that turned out to be wrong.
func (rs *routes) forget(topic string, wrong *route) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byTopic[topic] != wrong {
		return // another call has noticed too
	}
	delete(rs.byTopic, topic)
	for _, queue := range wrong.queues {
		rs.catalog.forget(queue)
	}
}

// topicBindings is what a topic is bound to.
type topicBindings struct {
	Version string
	Queues  []string // that exist
	Absent  []string // that do not, of which the bindings are left over
	Denied  []string // of Queues, those that the role may not publish to
	Grouped bool     // one of Queues belongs to a group
}

// bindingsVersion changes whenever a binding comes or goes. It is the sum of their
// hashes, in which their order does not matter.
const bindingsVersion = "(select coalesce(sum(hashtextextended(compiled_regex || ' ' || queue_name, 0)), 0)::text from pgmq.topic_bindings)"

// A binding of a group has the topic as its pattern, and leads to a queue that is named
// as groups are. Bindings of others make no groups.
const isGroupSQL = "pattern = $1::text and lower(queue_name) ~ $2::text and lower(queue_name) <> $3::text"

const bindingsSQL = `
with b as (
	select lower(queue_name) as queue, to_regclass(format('pgmq.%I', 'q_' || lower(queue_name))) as found, bool_or(` + isGroupSQL + `) as grouped
	from pgmq.topic_bindings where $1::text ~ compiled_regex group by 1, 2)
select ` + bindingsVersion + `,
	array(select queue from b where found is not null order by 1),
	array(select queue from b where found is null order by 1),
	array(select queue from b where not has_any_column_privilege(found, 'insert') order by 1),
	exists (select from b where grouped and found is not null)`

// bindings returns what is bound to topic, as pgmq.send_topic would find it.
func bindings(ctx context.Context, db DBTX, topic string) (topicBindings, error) {
	own, err := queueName(topic)
	if err != nil {
		return topicBindings{}, err
	}
	rows, err := db.Query(ctx, bindingsSQL, pgx.QueryExecModeCacheDescribe, routingKey(topic), groupNames(topic), own)
	if err != nil {
		return topicBindings{}, bindingsDenied(err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[topicBindings])
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

// publishDenied names all queues that get the messages of a topic and that the role
// may, or perhaps may, not insert into.
func publishDenied(topic string, queues []string) error {
	tables := make([]string, len(queues))
	for i, queue := range queues {
		tables[i] = tableName(queue)
	}
	all := strings.Join(tables, ", ")
	remedy := fmt.Sprintf("let the owner run GRANT INSERT (vt, message, headers) ON %s TO the role", all)
	if own, _ := queueName(topic); len(queues) > 1 || queues[0] != own {
		remedy += fmt.Sprintf("; select * from pgmq.test_routing('%s') shows what is bound, and pgmq.unbind_topic unbinds it", routingKey(topic))
	}
	return &Error{
		Kind: ErrPermission, Cause: fmt.Errorf("the role may not insert into %s, where messages of the topic go", all), Remedy: remedy,
	}
}

// insertInto returns the statement that stores messages in each of the queues.
//
// It stores nothing if the route has changed: a group that was bound a moment ago gets
// what is published now.
func insertInto(queues []string, unlessChanged string) string {
	var sql strings.Builder
	sql.WriteString("\nwith r as materialized (" + rowsSQL + unlessChanged + ")")
	for i, queue := range queues {
		fmt.Fprintf(&sql, ",\ni%d as (insert into %s (vt, message, headers) select vt, message, headers from r)", i, tableName(queue))
	}
	sql.WriteString("\n" + storedSQL)
	return sql.String()
}

// insertOnly is insertInto for one queue, which needs no copy of the rows.
func insertOnly(queue, unlessChanged string) string {
	return "insert into " + tableName(queue) + " (vt, message, headers)" + rowsSQL + unlessChanged
}

// insertOne is insertOnly for one message.
func insertOne(queue, unlessChanged string) string {
	return "insert into " + tableName(queue) + ` (vt, message, headers)
	select coalesce($4::timestamptz, clock_timestamp() + $3::bigint * interval '1 microsecond'), $1::text::jsonb, $2::text::jsonb` +
		unlessChanged
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

// forgetQueue is for a queue of topic that has been dropped.
func (rs *routes) forgetQueue(topic, queue string) {
	rs.mu.Lock()
	known := rs.byTopic[topic]
	rs.mu.Unlock()
	if known != nil {
		rs.forget(topic, known)
	}
	rs.catalog.forget(queue)
}
