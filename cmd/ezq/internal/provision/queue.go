package provision

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/schema"
)

// queue is one that a service needs.
type queue struct {
	topic, group string
	name         string
	of           Topic
	options      pgmq.QueueOptions
}

// String returns the queue as people are told.
func (q queue) String() string {
	of := fmt.Sprintf("of the topic %q", q.topic)
	if q.group != "" {
		of = fmt.Sprintf("of the group %q, topic %q", q.group, q.topic)
	}
	return "queue " + q.name + ", " + of
}

// write writes the statements that create the queue.
func (q queue) write(sql *strings.Builder) error {
	name, table, archive := literal(q.name), schema.Table(q.name), schema.Archive(q.name)
	switch q.options.Kind {
	case pgmq.QueueUnlogged:
		fmt.Fprintf(sql, "select pgmq.create_unlogged(%s);\n", name)
	case pgmq.QueuePartitioned:
		each, all := q.options.PartitionInterval, q.options.RetentionInterval
		if each == 0 || all == 0 {
			return fmt.Errorf("the topic %q is partitioned: set partition_interval and retention_interval", q.topic)
		}
		fmt.Fprintf(sql, "select pgmq.create_partitioned(%s, %s, %s);\n", name, literal(strconv.Itoa(each)), literal(strconv.Itoa(all)))
		fmt.Fprintf(sql, "create index if not exists %s on %s (vt);\n", schema.Quoted("q_"+q.name+"_vt_idx"), table)
	default:
		fmt.Fprintf(sql, "select pgmq.create(%s);\n", name)
	}
	if q.name != q.topic {
		fmt.Fprintf(sql, "comment on table %s is %s;\n", table, schema.Literal(schema.Label(q.topic, q.group)))
	}
	if q.of.Tune && q.options.Kind != pgmq.QueuePartitioned { // of those the partitions are tuned, by ezq init
		fmt.Fprintf(sql, "alter table %s set (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 1);\n", table)
		fmt.Fprintf(sql, "alter table %s set (autovacuum_vacuum_cost_delay = 1);\n", archive)
	}
	for _, of := range []struct {
		names []string
		table string
	}{{q.of.Indexes, table}, {q.of.ArchiveIndexes, archive}} {
		indexes, err := indexesOf(of.names)
		if err != nil {
			return err
		}
		for _, index := range indexes {
			sql.WriteString(indexSQL(index, of.table, false) + ";\n")
		}
	}
	return nil
}

// writeBinding writes the statements that have what is published to the topic come to the queue.
func (q queue) writeBinding(sql *strings.Builder) {
	fmt.Fprintf(sql, "select pgmq.bind_topic(%s, %s);\n", literal(routingKey(q.topic)), literal(q.name))
	if backend.IsPattern(q.topic) {
		fmt.Fprintf(sql, "select pgmq.bind_topic(%s, %s);\n", literal(q.topic), literal(q.name))
	}
}

// indexSQL returns the statement that builds an index.
func indexSQL(index schema.Index, table string, concurrently bool) string {
	how := ""
	if concurrently {
		how = "concurrently "
	}
	return "create index " + how + "if not exists " + index.Name(table) + " on " + table + " " + index.Expressions
}
