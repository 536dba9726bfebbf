package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// Whether a topic has groups, and whether it has a queue of its own, changes under a
// lock, so that neither is decided upon what the other was. Nothing else waits for it.
// It is several statements in one transaction; the second sees what was committed
// before it had the lock.
const lockTopicSQL = "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('ezq ' || $3::text, 0));\n"

const createUnlessGroupedSQL = ownPathSQL + lockTopicSQL + `select pgmq.create($3::text) where not exists (
	select from pgmq.topic_bindings where ` + isGroupSQL + ` and pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || pg_catalog.lower(queue_name))) is not null);
` + formerPathSQL

// The topic's own queue is bound with the group's, for publishers that use
// pgmq.send_topic.
const bindSQL = ownPathSQL + lockTopicSQL + `select pgmq.bind_topic($1::text, queue_name::text) from pgmq.meta where queue_name::text in ($2::text, $3::text);
` + formerPathSQL

// A group that takes a pattern is bound by that as well as by the name: see bindings.sql.
const bindPatternSQL = ownPathSQL + lockTopicSQL + `select pgmq.bind_topic($1::text, queue_name::text) from pgmq.meta where queue_name::text = $2::text;
select pgmq.bind_topic({pattern}::text, queue_name::text) from pgmq.meta where queue_name::text = $2::text;
` + formerPathSQL

// bindingSQL returns the statements that bind the queue of a group to topic.
func bindingSQL(topic, own, queue string) string {
	sql := bindSQL
	if backend.IsPattern(topic) {
		sql = strings.ReplaceAll(bindPatternSQL, "{pattern}", sqlfile.Literal(topic))
	}
	return withLiterals(sql, queuename.RoutingKey(topic), queue, own)
}

// withLiterals puts values in the place of $1, $2 and $3. Several statements take no
// parameters, and pgx puts in none of its own where the client_encoding is not UTF8.
func withLiterals(sql, first, second, third string) string {
	return strings.NewReplacer("$1", sqlfile.Literal(first), "$2", sqlfile.Literal(second), "$3", sqlfile.Literal(third)).Replace(sql)
}

// Bind makes sure that queue gets a copy of every message of topic. It reports whether
// it did not before. A queue that is not in pgmq.meta, because its row was deleted, cannot be
// bound: declare puts it there.
func Bind(ctx context.Context, db transact.Queryer, topic, own, queue string, declare bool) (fresh bool, err error) {
	for {
		bound, err := IsBound(ctx, db, topic, queue)
		if err != nil || bound {
			return fresh, err
		}
		if fresh && !declare {
			return false, notInMeta(queue)
		}
		if fresh {
			declare = false
			if _, err := db.Exec(ctx, plainCreation(queue).sql); err != nil {
				return false, notInMeta(queue)
			}
		}
		fresh = true
		if _, err := db.Exec(ctx, bindingSQL(topic, own, queue)); err != nil {
			return false, bindDenied(err, queue)
		}
	}
}

// bindDenied returns err, or says that the group has no binding and the role may not make it.
func bindDenied(err error, queue string) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	return &fault.Error{
		Kind: fault.ErrPermission,
		Cause: fmt.Errorf("the queue %q of the group is not bound to the topic, so what is published does not come to it, and the role may not bind it: %w",
			queue, fault.WithoutSecrets(err)),
		Remedy: "let its owner bind it, with SubscribeInitialize of a program that has the same Group, once publishers may insert into it; or, if this role is to bind it," +
			" let an administrator run GRANT SELECT ON pgmq.meta TO the role; GRANT SELECT, INSERT ON pgmq.topic_bindings TO the role",
	}
}

// IsBound reports whether queue gets a copy of every message of topic.
func IsBound(ctx context.Context, db transact.Queryer, topic, queue string) (bool, error) {
	bound, err := Bindings(ctx, db, topic)
	return err == nil && bound.Include(topic, queue), err
}

// notInMeta is why the queue of a group cannot be bound to its topic.
func notInMeta(queue string) error {
	return &fault.Error{
		Cause: fmt.Errorf("pgmq.meta has no row for the queue %q, so it is not bound to the topic, and what is published does not come to it", queue),
		Remedy: fmt.Sprintf("let the owner of pgmq.meta run SELECT pgmq.create('%s'), which adds the row and leaves the messages; of a partitioned queue,"+
			" insert into pgmq.meta (queue_name, is_partitioned, is_unlogged) values ('%[1]s', true, false)", queue),
	}
}

// Join binds the own queue of a topic that has groups. That is for publishers that
// use pgmq.send_topic, so it is no failure if the role may not.
func Join(ctx context.Context, db transact.Queryer, topic, own string) error {
	bound, err := Bindings(ctx, db, topic)
	if err == nil && bound.Grouped && !slices.Contains(bound.Queues, own) {
		_, err = db.Exec(ctx, withLiterals(bindSQL, queuename.RoutingKey(topic), own, own))
	}
	if fault.IsCode(err, "42501") || errors.Is(err, fault.ErrPermission) {
		return nil
	}
	return err
}

// waitingSQL counts what was published before the binding of a group, as far as a log
// line needs it.
const waitingSQL = `
select count(*) from (select from {table} where enqueued_at <= (
	select pg_catalog.max(bound_at) from pgmq.topic_bindings where pattern::text = $1::text and queue_name::text = $2::text) limit 100000) as waiting`

// CountMissed returns how many messages are in the own queue of a topic that a new group
// does not get: at most 100,000, or -1 if that cannot be told. The own queue has to be trusted.
func CountMissed(ctx context.Context, db transact.Queryer, topic, own, queue string) int {
	rows, err := db.Query(ctx, strings.ReplaceAll(waitingSQL, "{table}", queuename.Table(own)), pgx.QueryExecModeCacheDescribe, queuename.RoutingKey(topic), queue)
	if err != nil {
		return -1
	}
	n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	if err != nil {
		return -1
	}
	return n
}

// MoveMissed returns the statement that moves what CountMissed counts to the group.
func MoveMissed(topic, own, queue string) string {
	return fmt.Sprintf(`with m as (delete from %s where enqueued_at <= (select pg_catalog.max(bound_at) from pgmq.topic_bindings where pattern = %s and queue_name = %s)`+
		` returning vt, message, headers) insert into %s (vt, message, headers) select vt, message, headers from m`,
		queuename.Table(own), sqlfile.Literal(queuename.RoutingKey(topic)), sqlfile.Literal(queue), queuename.Table(queue))
}

// ErrHasGroups says that a topic has groups and no queue of its own.
var ErrHasGroups = errors.New("the topic has groups, and no queue of its own")

// GroupRequired is why a consumer without a group is refused.
func GroupRequired() error {
	return &fault.Error{
		Kind: fault.ErrGroupRequired, Cause: fmt.Errorf("%w: what was published so far is not there for a consumer without a group", ErrHasGroups),
		Remedy: "set SubscriberConfig.Group; or declare the topic's own queue, which gets what is published from then on:" +
			" call SubscribeInitialize of a subscriber without a Group, and without NoCreate",
	}
}

// GroupsUnsupported is why a consumer with a group is refused by a PGMQ that has no topic bindings.
func GroupsUnsupported() error {
	return &fault.Error{
		Kind: fault.ErrTooOld, Cause: fmt.Errorf("it has no topic bindings, which groups require: %w", errors.ErrUnsupported),
		Remedy: "update PGMQ to 1.11 or later, or subscribe without a Group",
	}
}

// HasOnlyGroups reports whether err says that topic has no queue of its own, and it has groups
// instead. To create the queue would stop the publishers that may not insert there.
func HasOnlyGroups(ctx context.Context, pool *pgxpool.Pool, topic string, err error) bool {
	own, invalid := queuename.Of(topic)
	if !fault.IsCode(err, "42P01") || invalid != nil {
		return false
	}
	found, failed := Probe(ctx, pool, own)
	if failed != nil || found.Exists() || !found.Groups {
		return false
	}
	bound, failed := Bindings(ctx, pool, topic)
	return failed == nil && bound.Grouped
}

// creationUnlessGrouped creates the own queue of a topic that has no groups.
func creationUnlessGrouped(topic, own string) creation {
	return creation{sql: withLiterals(createUnlessGroupedSQL, queuename.RoutingKey(topic), queuename.GroupPattern(topic), own)}
}

// GroupNotFound is queueNotFound for the queue of a group, which nothing is published to before it
// is bound to the topic.
func GroupNotFound(group, queue string) error {
	return &fault.Error{Kind: fault.ErrQueueNotFound, Cause: fmt.Errorf("there is no queue %q of the group %q", queue, group), Remedy: fault.GroupRemedy}
}
