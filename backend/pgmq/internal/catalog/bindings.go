package catalog

import (
	"context"
	_ "embed"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/bindings.sql
var bindingsSQL string

// TopicBindings is what a topic is bound to.
type TopicBindings struct {
	Version string
	Queues  []string // that exist
	Absent  []string // that do not, of which the bindings are left over
	Denied  []string // of Queues, those that the role may not publish to
	Grouped bool     // one of Queues belongs to a group

	// Patterned are queues of groups that take a pattern which the topic matches, or is.
	Patterned []string
}

// Include reports whether queue, which is that of a group of topic, gets all that the group is to get.
func (b TopicBindings) Include(topic, queue string) bool {
	return slices.Contains(b.Queues, queue) && (!backend.IsPattern(topic) || slices.Contains(b.Patterned, queue))
}

// Groups returns those of Queues that belong to groups of topic, or of that pattern. The groups of a pattern that
// the topic matches are those of another name.
func (b TopicBindings) Groups(topic string) (groups []string) {
	for _, queue := range b.Queues {
		if queuename.IsGroup(topic, queue) && (backend.IsPattern(topic) || !slices.Contains(b.Patterned, queue)) {
			groups = append(groups, queue)
		}
	}
	return groups
}

// bindingsVersion changes whenever a binding comes or goes. It is the sum of their
// hashes, in which their order does not matter.
const bindingsVersion = "(select coalesce(pg_catalog.sum(pg_catalog.hashtextextended(compiled_regex::text || ' ' || queue_name::text, 0)), 0)::text from pgmq.topic_bindings)"

// A binding of a group has the topic as its pattern, and leads to a queue that is named
// as groups are. Bindings of others make no groups.
const isGroupSQL = "pattern::text = $1::text and pg_catalog.lower(queue_name) ~ $2::text and pg_catalog.lower(queue_name) <> $3::text"

// Bindings returns what is bound to topic, as pgmq.send_topic would find it.
func Bindings(ctx context.Context, db transact.Queryer, topic string) (TopicBindings, error) {
	own, err := queuename.Of(topic)
	if err != nil {
		return TopicBindings{}, err
	}
	rows, err := db.Query(ctx, strings.NewReplacer("{version}", bindingsVersion, "{is group}", isGroupSQL).Replace(sqlfile.Text(bindingsSQL)), pgx.QueryExecModeCacheDescribe,
		queuename.RoutingKey(topic), queuename.GroupPattern(topic), own, queuename.ForPatterns(topic))
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
			" besides GRANT INSERT (vt, message, headers) on the queues to publish to, or SELECT, UPDATE, DELETE on those to consume",
	}
}
