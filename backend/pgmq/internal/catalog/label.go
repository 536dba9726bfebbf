package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/schema"
)

// labelTimeout is how long a subscription waits until it can label its queue. The label is
// for people, and not worth more.
const labelTimeout = time.Second

const labelSQL = `
select pg_catalog.obj_description(oid, 'pg_class') is null and pg_catalog.pg_has_role(relowner, 'usage')
from pg_class where oid = $1::text::regclass::oid`

// maxLabel is how many characters a label has at most: a topic and a group, with an escape of four for each byte, and as
// much again to be sure.
const maxLabel = len(schema.GroupLabel) + 2*4*2*backend.MaxTopic

// LabelSQL reads the label of the table c in pg_class. A comment can be as large as its author wants: no more of it is
// read than a label has.
func LabelSQL() string {
	return fmt.Sprintf("coalesce(pg_catalog.left(pg_catalog.obj_description(c.oid, 'pg_class'), %d), '')", maxLabel)
}

// ReadLabel returns whose messages the queue holds, by its label if there is one. The owner of a queue can write any: it
// counts only if what it names has this queue.
func ReadLabel(queue, label string) (topic, group string) {
	if _, err := fmt.Sscanf(label, schema.GroupLabel, &topic, &group); err == nil {
		if name, err := queuename.OfGroup(topic, group); err == nil && name == queue {
			return topic, group
		}
	}
	if _, err := fmt.Sscanf(label, schema.TopicLabel, &topic); err == nil {
		if name, err := queuename.Of(topic); err == nil && name == queue {
			return topic, ""
		}
	}
	if name, err := queuename.Of(queue); err == nil && name == queue {
		return queue, ""
	}
	return "", ""
}

// WriteLabel notes, in a comment on the table, whose messages a queue holds whose name does
// not say it: the queue of a group, or of a topic that cannot be a name. It does so once,
// if the role may, and leaves any other comment alone. Nothing fails for want of a label.
func WriteLabel(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger, topic, group, queue string) {
	ctx, cancel := context.WithTimeout(ctx, labelTimeout)
	defer cancel()
	if err := writeLabel(ctx, pool, topic, group, queue); err != nil {
		logger.Debug("ezq: the queue could not be labelled", "topic", topic, "queue", queue, "error", fault.WithoutSecrets(err))
	}
}

func writeLabel(ctx context.Context, db transact.Queryer, topic, group, queue string) error {
	if queue == topic {
		return nil
	}
	rows, err := db.Query(ctx, labelSQL, pgx.QueryExecModeCacheDescribe, queuename.Table(queue))
	if err != nil {
		return err
	}
	wanted, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err == nil && wanted {
		_, err = db.Exec(ctx, fmt.Sprintf("comment on table %s is %s", queuename.Table(queue), sqlfile.Literal(schema.Label(topic, group))))
	}
	return err
}
