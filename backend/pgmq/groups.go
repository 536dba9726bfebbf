package pgmq

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// groupQueue returns the name of the queue in which a group gets its copies of
// the messages of topic. It has the shape of a hashed name, and as no topic
// contains a NUL, it is not the name of any topic's queue.
func groupQueue(topic, group string) (string, error) {
	if err := checkTopic(topic); err != nil {
		return "", err
	}
	if err := checkGroup(group); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(topic + "\x00" + group))
	return readablePrefix(topic+" "+group) + hashMark + hex.EncodeToString(sum[:hashDigits/2]), nil
}

// checkGroup holds the names of groups to what the names of topics are held to.
func checkGroup(group string) error {
	if refused, ok := errors.AsType[*backend.RefusedError](backend.CheckTopic(group)); ok {
		return invalidConfig("Group", fmt.Sprintf("%q: %s", excerpt.Of(group), refused.Reason),
			fmt.Sprintf("at most %d bytes of UTF-8 without NUL, or leave it empty for no group", backend.MaxTopic))
	}
	return nil
}

// routingKey returns the name under which PGMQ knows topic: its own, so that
// pgmq.send_topic reaches the same queues, or that of its queue, where PGMQ does
// not take the topic (validate_routing_key, PGMQ 1.11.1) or it is what another one's
// queue could be named. No two topics have the same key: the own names do not have the
// shape of a hashed name, and all others do.
func routingKey(topic string) string {
	valid := len(topic) <= 255 && !strings.HasPrefix(topic, ".") && !strings.HasSuffix(topic, ".") && !strings.Contains(topic, "..")
	for i := range len(topic) {
		c := topic[i]
		valid = valid && (isLower(c|0x20) || isDigit(c) || c == '.' || c == '_' || c == '-')
	}
	if valid && !isHashed(topic) {
		return topic
	}
	queue, _ := queueName(topic) // was checked before
	return queue
}

// groupNames returns a regular expression for the names that groupQueue gives.
func groupNames(topic string) string {
	topic = strings.TrimRight(strings.TrimSuffix(readablePrefix(topic+" g"), "g"), "_") // as where the group adds nothing readable
	return "^" + topic + "[a-z0-9_]*" + hashMark + "[0-9a-f]{" + fmt.Sprint(hashDigits) + "}$"
}

// Whether a topic has groups, and whether it has a queue of its own, changes under a
// lock, so that neither is decided upon what the other was. Nothing else waits for it.
// It is several statements in one transaction; the second sees what was committed
// before it had the lock.
const lockTopicSQL = "select pg_advisory_xact_lock(hashtextextended('ezq ' || $3::text, 0));\n"

const createUnlessGroupedSQL = lockTopicSQL + `select pgmq.create($3::text) where not exists (
	select from pgmq.topic_bindings where ` + isGroupSQL + ` and to_regclass(format('pgmq.%I', 'q_' || lower(queue_name))) is not null)`

// The topic's own queue is bound with the group's, for publishers that use
// pgmq.send_topic.
const bindSQL = lockTopicSQL + `select pgmq.bind_topic($1::text, queue_name) from pgmq.meta where queue_name in ($2::text, $3::text)`

// withLiterals puts values in the place of $1, $2 and $3. Several statements take no
// parameters, and pgx puts in none of its own where the client_encoding is not UTF8.
func withLiterals(sql, first, second, third string) string {
	return strings.NewReplacer("$1", literal(first), "$2", literal(second), "$3", literal(third)).Replace(sql)
}

// creationUnlessGrouped creates the own queue of a topic that has no groups.
func creationUnlessGrouped(topic, own string) creation {
	return creation{sql: withLiterals(createUnlessGroupedSQL, routingKey(topic), groupNames(topic), own)}
}

// bind makes sure that queue gets a copy of every message of topic. It reports whether
// it did not before.
func bind(ctx context.Context, db DBTX, topic, own, queue string) (fresh bool, err error) {
	bound, err := bindings(ctx, db, topic)
	if err != nil || slices.Contains(bound.Queues, queue) {
		return false, err
	}
	_, err = db.Exec(ctx, withLiterals(bindSQL, routingKey(topic), queue, own))
	return true, err
}

// join binds the own queue of a topic that has groups. That is for publishers that
// use pgmq.send_topic, so it is no failure if the role may not.
func join(ctx context.Context, db DBTX, topic, own string) error {
	bound, err := bindings(ctx, db, topic)
	if err == nil && bound.Grouped && !slices.Contains(bound.Queues, own) {
		_, err = db.Exec(ctx, withLiterals(bindSQL, routingKey(topic), own, own))
	}
	if isCode(err, "42501") || errors.Is(err, ErrPermission) {
		return nil
	}
	return err
}

// waitingSQL counts what was published before the binding of a group, as far as a log
// line needs it.
const waitingSQL = `
select count(*) from (select from {table} where enqueued_at <= (
	select max(bound_at) from pgmq.topic_bindings where pattern = $1::text and queue_name = $2::text) limit 100000) as waiting`

// countMissed returns how many messages are in the own queue of a topic that a new group
// does not get: at most 100,000, or -1 if that cannot be told.
func countMissed(ctx context.Context, db DBTX, topic, own, queue string) int {
	rows, err := db.Query(ctx, strings.ReplaceAll(waitingSQL, "{table}", tableName(own)), pgx.QueryExecModeCacheDescribe, routingKey(topic), queue)
	if err != nil {
		return -1
	}
	n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	if err != nil {
		return -1
	}
	return n
}

// moveMissed returns the statement that moves what countMissed counts to the group.
func moveMissed(topic, own, queue string) string {
	return fmt.Sprintf(`with m as (delete from %s where enqueued_at <= (select max(bound_at) from pgmq.topic_bindings where pattern = %s and queue_name = %s)`+
		` returning vt, message, headers) insert into %s (vt, message, headers) select vt, message, headers from m`,
		tableName(own), literal(routingKey(topic)), literal(queue), tableName(queue))
}

// errHasGroups says that a topic has groups and no queue of its own.
var errHasGroups = errors.New("the topic has groups, and no queue of its own")

// groupRequired is why a consumer without a group is refused.
func groupRequired() error {
	return &Error{
		Kind: ErrGroupRequired, Cause: fmt.Errorf("%w: what was published so far is not there for a consumer without a group", errHasGroups),
		Remedy: "set SubscriberConfig.Group; or declare the topic's own queue, which gets what is published from then on:" +
			" call SubscribeInitialize of a subscriber without a Group, and without NoCreate",
	}
}

func groupsUnsupported() error {
	return &Error{
		Kind: ErrTooOld, Cause: fmt.Errorf("it has no topic bindings, which groups require: %w", errors.ErrUnsupported),
		Remedy: "update PGMQ to 1.11 or later, or subscribe without a Group",
	}
}

// hasOnlyGroups reports whether err says that topic has no queue of its own, and it has groups
// instead. To create the queue would stop the publishers that may not insert there.
func hasOnlyGroups(ctx context.Context, pool *pgxpool.Pool, topic string, err error) bool {
	own, invalid := queueName(topic)
	if !isCode(err, "42P01") || invalid != nil {
		return false
	}
	missing, failed := queryValue[bool](ctx, pool, "select to_regclass($1) is null", tableName(own))
	if failed != nil || !missing {
		return false
	}
	bound, failed := bindings(ctx, pool, topic)
	return failed == nil && bound.Grouped
}
