package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

// TopicBindings is what a topic is bound to.
type TopicBindings struct {
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

// Bindings returns what is bound to topic, as pgmq.send_topic would find it.
func Bindings(ctx context.Context, db transact.Queryer, topic string) (TopicBindings, error) {
	own, err := queuename.Of(topic)
	if err != nil {
		return TopicBindings{}, err
	}
	rows, err := db.Query(ctx, bindingsSQL, pgx.QueryExecModeCacheDescribe, queuename.RoutingKey(topic), queuename.GroupPattern(topic), own)
	if err != nil {
		return TopicBindings{}, bindingsDenied(err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[TopicBindings])
	return found, bindingsDenied(err)
}

func bindingsDenied(err error) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	return &fault.Error{
		Kind: fault.ErrPermission, Cause: fault.WithoutSecrets(err),
		Remedy: "let its owner run GRANT SELECT ON pgmq.topic_bindings TO the role, which tells the groups of a topic," +
			" besides GRANT INSERT on the queues to publish to, or SELECT, UPDATE, DELETE on those to consume",
	}
}
