package catalog

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// Route is where the messages of a topic go: to the queues that are bound to it, and
// to the topic's own queue if that exists, bound or not. A binding makes a copy; it
// takes nothing away from the consumers of the topic.
//
// Only a topic that has groups needs no queue of its own.
type Route struct {
	Queues          []string
	absent          []string // queues that would get the messages, too, and do not exist
	Version         string   // of the bindings; "" if this PGMQ has none
	Insert          string   // messages, headers, delays in µs, times, version
	InsertOne       string   // the same for a single message, with values instead of arrays; "" if there is none
	InsertAndNotify string   // the same, channel
	Pooled          bool     // through a pooler, where nothing can stay prepared
	Own             string   // the topic's own queue, whether it exists or not

	patterned []string // those of Queues whose messages have to say the topic
	topic     string   // what they say

	mu     sync.Mutex
	others map[string]string // statements that other packages make for the route
}

// Routes remembers the route of each topic. A route that has been overtaken is
// noticed by the statement that uses it: it stores nothing then.
type Routes struct {
	Catalog *Catalog

	mu      sync.Mutex
	byTopic map[string]*Route
}

// NewRoutes returns routes that know none.
func NewRoutes(catalog *Catalog) *Routes {
	return &Routes{Catalog: catalog, byTopic: map[string]*Route{}}
}

// Find returns the route of topic. If it is not known, it looks, and creates the queue of a topic that has
// none, unless create is nil.
func (rs *Routes) Find(ctx context.Context, db transact.Queryer, topic string, create Creator) (*Route, error) {
	rs.mu.Lock()
	known := rs.byTopic[topic]
	rs.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err := rs.LookUp(ctx, db, topic, create)
	if err != nil {
		return nil, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	bounded.Set(rs.byTopic, topic, found)
	return found, nil
}

// LookUp is Find for a route that is not to be remembered.
func (rs *Routes) LookUp(ctx context.Context, db transact.Queryer, topic string, create Creator) (*Route, error) {
	own, err := queuename.Of(topic)
	if err != nil {
		return nil, err
	}
	const attempts = 5
	for range attempts {
		found, err := rs.lookUpOnce(ctx, db, topic, own, create)
		if !errors.Is(err, ErrHasGroups) {
			return found, err
		}
	}
	return nil, ErrBindings
}

func (rs *Routes) lookUpOnce(ctx context.Context, db transact.Queryer, topic, own string, create Creator) (*Route, error) {
	layout, err := Probe(ctx, db, own)
	if err != nil {
		return nil, err
	}
	found := &Route{Pooled: layout.Pooled, Own: own}
	var bound TopicBindings
	if layout.Groups {
		if bound, err = Bindings(ctx, db, topic); err != nil {
			return nil, err
		}
		found.Queues, found.absent, found.Version = bound.Queues, bound.Absent, bound.Version
		found.patterned, found.topic = bound.Patterned, codec.EscapeTopic(topic)
	}
	switch {
	case slices.Contains(found.Queues, own):
	case layout.Exists():
		found.Queues = append(found.Queues, own)
		if !layout.Publish {
			bound.Denied = append(bound.Denied, own)
		}
	case bound.Grouped:
		found.absent = append(found.absent, own)
	default:
		if _, err := rs.Catalog.CreateOwn(ctx, topic, own, create, layout.Groups); err != nil {
			return nil, err
		}
		found.Queues = append(found.Queues, own)
	}
	if len(bound.Denied) > 0 {
		return nil, found.denied(topic, bound.Denied)
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
func (r *Route) checkOwners(ctx context.Context, db transact.Queryer, own string, administered bool) error {
	if administered && !slices.Contains(r.Queues, own) {
		return nil
	}
	tables := make([]string, len(r.Queues))
	for i, queue := range r.Queues {
		tables[i] = queuename.Table(queue)
	}
	return RequireTrusted(ctx, db, tables, VouchingTable(administered, own))
}

// Forget is for a route that turned out to be wrong.
func (rs *Routes) Forget(topic string, wrong *Route) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byTopic[topic] != wrong {
		return // another call has noticed too
	}
	delete(rs.byTopic, topic)
	for _, queue := range wrong.Queues {
		rs.Catalog.Forget(queue)
	}
}

// ForgetQueue is for a queue of topic that has been dropped.
func (rs *Routes) ForgetQueue(topic, queue string) {
	rs.mu.Lock()
	known := rs.byTopic[topic]
	rs.mu.Unlock()
	if known != nil {
		rs.Forget(topic, known)
	}
	rs.Catalog.Forget(queue)
}

// Denied returns the error for a role that may not insert into one of the queues, or perhaps may not.
func (r *Route) Denied(topic string) error { return r.denied(topic, r.Queues) }

// denied names all queues that get the messages of a topic and that the role may, or perhaps may, not insert into.
func (r *Route) denied(topic string, queues []string) error {
	tables := make([]string, len(queues))
	for i, queue := range queues {
		tables[i] = queuename.Table(queue)
	}
	all := strings.Join(tables, ", ")
	remedy := fmt.Sprintf("let the owner run GRANT INSERT (vt, message, headers) ON %s TO the role", all)
	if slices.ContainsFunc(queues, func(queue string) bool { return queue != r.Own }) {
		remedy += fmt.Sprintf("; select * from pgmq.test_routing('%s') shows what is bound", queuename.RoutingKey(topic))
	}
	isForeign := func(queue string) bool {
		return queue != r.Own && !queuename.IsGroup(topic, queue) && !slices.Contains(r.patterned, queue)
	}
	if slices.ContainsFunc(queues, isForeign) { // a group would lose its events
		remedy += ", and pgmq.unbind_topic unbinds a queue that is no group's"
	}
	return &fault.Error{
		Kind: fault.ErrPermission, Cause: fmt.Errorf("the role may not insert into %s, where messages of the topic go", all), Remedy: remedy,
	}
}

// ErrBindings is why nothing was published whose route changed each time that it was used.
var ErrBindings = errors.New("the groups of the topic change faster than messages can be published;" +
	" or the transaction, under REPEATABLE READ, is older than a group")

var (
	//go:embed sql/insert.sql
	insertSQL string
	//go:embed sql/insert_one.sql
	insertOneSQL string
	//go:embed sql/insert_copies.sql
	insertCopiesSQL string
)

// prepare makes the statements.
func (r *Route) prepare() {
	var copies strings.Builder
	inserts := make([]string, len(r.Queues))
	notifications := make([]string, len(r.Queues))
	for i, queue := range r.Queues {
		fmt.Fprintf(&copies, ",\ni%d as (insert into %s (vt, message, headers) select vt, message, headers%s from r returning 1)", i, queuename.Table(queue), r.AddedHeaders(queue))
		inserts[i] = fmt.Sprintf("i%d", i)
		notifications[i] = "case when has_room then pg_catalog.pg_notify($6, " + sqlfile.Literal(queue) + ") end"
	}
	statement := func(file string, names ...string) string {
		return strings.NewReplacer(append(names, "{unchanged}", r.Unchanged())...).Replace(sqlfile.Text(file))
	}
	stored := "select 1 from r where " + AllStored("r", inserts...) + " limit 1"
	notified := "select " + strings.Join(notifications, ", ") + " from (" + stored + ") as stored, (select " + transact.NotificationsHaveRoomSQL + " as has_room) as notifications"
	r.InsertAndNotify = statement(insertCopiesSQL, "{copies}", copies.String(), "{stored}", notified)
	if len(r.Queues) != 1 || len(r.patterned) > 0 {
		r.Insert = statement(insertCopiesSQL, "{copies}", copies.String(), "{stored}", stored)
		return
	}
	table := queuename.Table(r.Queues[0])
	r.Insert, r.InsertOne = statement(insertSQL, "{table}", table, "{mark}", fault.NotStoredMark), statement(insertOneSQL, "{table}", table)
}

// AddedHeaders returns what queue gets, in SQL, behind the column headers of a message: the copies for a group that
// takes a pattern say their topic.
func (r *Route) AddedHeaders(queue string) string {
	if !slices.Contains(r.patterned, queue) {
		return ""
	}
	return " || pg_catalog.jsonb_build_object('" + codec.TopicKey + "', " + sqlfile.Literal(r.topic) + "::text)"
}

// WhyNotStored returns why nothing was published by this route.
func (r *Route) WhyNotStored(ctx context.Context, db transact.Queryer) error {
	rows, err := db.Query(ctx, "select "+r.unchanged("$1::text"), pgx.QueryExecModeCacheDescribe, r.Version)
	if err != nil {
		return err
	}
	unchanged, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err != nil || !unchanged {
		return cmp.Or(err, ErrBindings)
	}
	return &fault.Error{Cause: errors.New("PostgreSQL accepts the rows, and does not insert them into the table"), Remedy: fault.NotStoredRemedy}
}

// Statement returns the statement of that name, which build makes when it is first asked for.
func (r *Route) Statement(name string, build func() string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.others[name] == "" {
		if r.others == nil {
			r.others = map[string]string{}
		}
		r.others[name] = build()
	}
	return r.others[name]
}

// Unchanged is the condition, in SQL, on which the route is still right: the bindings are
// those that it was made for, and what did not exist still does not. PostgreSQL decides
// that once for a statement, whatever the number of messages.
func (r *Route) Unchanged() string { return r.unchanged("$5::text") }

// unchanged is Unchanged where the version of the bindings is another parameter.
func (r *Route) unchanged(version string) string {
	condition := version + " = '' and pg_catalog.to_regclass('pgmq.topic_bindings') is null"
	if r.Version != "" {
		condition = bindingsVersion + " = " + version
	}
	for _, queue := range r.absent {
		condition += " and pg_catalog.to_regclass(" + sqlfile.Literal(queuename.Table(queue)) + ") is null"
	}
	return condition
}
