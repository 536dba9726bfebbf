package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/schema"
)

// Database is where queues are created.
type Database struct {
	Pool   *pgxpool.Pool
	Client func(ctx context.Context, group string) (*pgmq.Client, error) // for the queues of a group, or the topics' own
}

// Plan is what is to be created, and what is not.
type Plan struct {
	Steps   []Step
	There   []string // what is there already, as it should be
	Differs []string // what is there and differs, and what cannot be done yet: both stay as they are
}

// Step is something that is missing.
type Step struct {
	Title string
	Do    func(context.Context) error
}

// planner looks into a database.
type planner struct {
	Database
	queues map[string]pgmq.QueueInfo
	bind   bool
	plan   Plan
}

// NewPlan returns what a service lacks in a database. Bind has groups bound also where roles that publish now may not
// publish to them.
func NewPlan(ctx context.Context, db Database, service Service, bind bool) (Plan, error) {
	client, err := db.Client(ctx, "")
	if err != nil {
		return Plan{}, err
	}
	there, err := client.Queues(ctx)
	if err != nil {
		return Plan{}, err
	}
	p := planner{Database: db, queues: map[string]pgmq.QueueInfo{}, bind: bind}
	for _, queue := range there {
		p.queues[queue.Name] = queue
	}
	for _, topic := range service.Topics {
		if err := p.topic(ctx, topic); err != nil {
			return Plan{}, err
		}
	}
	return p.plan, nil
}

func (p *planner) topic(ctx context.Context, t Topic) error {
	queues, err := t.queues()
	if err != nil {
		return err
	}
	for _, q := range queues {
		if err := p.queue(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) add(title string, do func(context.Context) error) {
	p.plan.Steps = append(p.plan.Steps, Step{title, do})
}

func (p *planner) queue(ctx context.Context, q queue) error {
	found, exists := p.queues[q.name]
	switch {
	case !exists:
		p.add(fmt.Sprintf("create the %v (%v)", q, q.options.Kind), p.with(q, func(ctx context.Context, c *pgmq.Client) error {
			return c.CreateQueue(ctx, q.topic, &q.options)
		}))
	case found.Kind != q.options.Kind:
		p.plan.Differs = append(p.plan.Differs, fmt.Sprintf("the %v is %v, and %v is asked for: to change that, drop it first, which loses its messages and its archive",
			q, found.Kind, q.options.Kind))
	default:
		p.plan.There = append(p.plan.There, "the "+q.String())
	}
	if err := p.binding(ctx, q, exists); err != nil {
		return err
	}
	if err := p.tuning(ctx, q); err != nil {
		return err
	}
	for _, of := range []struct {
		names []string
		table string
	}{{q.of.Indexes, schema.Table(q.name)}, {q.of.ArchiveIndexes, schema.Archive(q.name)}} {
		indexes, err := indexesOf(of.names)
		if err != nil {
			return err
		}
		for _, index := range indexes {
			if err := p.index(ctx, index, of.table, q.options.Kind == pgmq.QueuePartitioned && of.table == schema.Table(q.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// with returns a step on a client of the queue.
func (p *planner) with(q queue, do func(context.Context, *pgmq.Client) error) func(context.Context) error {
	return func(ctx context.Context) error {
		client, err := p.Client(ctx, q.group)
		if err != nil {
			return err
		}
		return do(ctx, client)
	}
}

// binding has what is published to the topic come to the queue. From then on a publisher without rights to it fails.
func (p *planner) binding(ctx context.Context, q queue, exists bool) error {
	bound := exists
	var denied []string
	if err := p.Pool.QueryRow(ctx, bindingSQL, pgx.QueryExecModeExec, q.name, schema.Table(q.name), q.topic).Scan(&bound, &denied); err != nil {
		return err
	}
	if q.group == "" { // needs no binding, but for pgmq.send_topic where there are groups
		if !exists {
			p.add("note its topic on the "+q.String(), p.declare(q))
		}
		return nil
	}
	switch {
	case bound:
	case len(denied) > 0 && !p.bind:
		p.plan.Differs = append(p.plan.Differs, fmt.Sprintf("the %v is not bound to its topic: the roles %s publish to it, and may not insert into that queue, so each of their publishes"+
			" would fail. Run ezq grants --role ROLE --publish %s --group %s --apply for each, and ezq init again; or bind it all the same, with --bind",
			q, strings.Join(denied, ", "), q.topic, q.group))
	default:
		p.add("bind the "+q.String()+": it gets what is published from then on", p.declare(q))
	}
	return nil
}

func (p *planner) declare(q queue) func(context.Context) error {
	return p.with(q, func(_ context.Context, c *pgmq.Client) error { return c.SubscribeInitialize(q.topic) })
}

// bindingSQL tells whether a queue is bound to anything, and which roles may publish to another queue of its topic and not
// to this one: $1 is its name, $2 its table, which may not be there, and $3 the topic.
const bindingSQL = `
with others as (
	select pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || queue_name)) as of from (
		select $3::text as queue_name union select queue_name from pgmq.topic_bindings where $3::text ~ compiled_regex or pattern = $3::text) as queues
	where queue_name <> $1::text)
select exists (select from pgmq.topic_bindings where queue_name = $1::text),
	array(select rolname::text from pg_roles r where rolcanlogin and not pg_catalog.pg_has_role(r.oid, current_user, 'usage')
		and exists (select from others where of is not null and pg_catalog.has_any_column_privilege(r.oid, of, 'insert'))
		and not coalesce(pg_catalog.has_any_column_privilege(r.oid, pg_catalog.to_regclass($2::text), 'insert'), false) order by 1)`

func (p *planner) tuning(ctx context.Context, q queue) error {
	if !q.of.Tune {
		return nil
	}
	var tuned bool
	if err := p.Pool.QueryRow(ctx, tunedSQL, pgx.QueryExecModeExec, schema.Table(q.name)).Scan(&tuned); err != nil {
		return err
	}
	if tuned {
		p.plan.There = append(p.plan.There, "the settings of the "+q.String())
		return nil
	}
	p.add("tune the "+q.String()+", for which its running statements are waited for", p.with(q, func(ctx context.Context, c *pgmq.Client) error {
		return c.Tune(ctx, q.topic, nil)
	}))
	return nil
}

// tunedSQL tells whether the table $1, or one of its partitions, has a fillfactor.
const tunedSQL = `select exists (
	select from pg_class, pg_catalog.unnest(reloptions) as option where option like 'fillfactor=%'
		and (oid = pg_catalog.to_regclass($1::text)::oid or oid in (select inhrelid from pg_inherits where inhparent = pg_catalog.to_regclass($1::text)::oid)))`

// index has an index built beside what publishes and consumes, which waits for no lock then.
func (p *planner) index(ctx context.Context, index schema.Index, table string, partitioned bool) error {
	name := index.Name(table)
	var found foundIndex
	var divided bool
	var megabytes int64
	expression, predicate := index.Written()
	err := p.Pool.QueryRow(ctx, indexThereSQL, pgx.QueryExecModeExec, `"pgmq".`+name, table, expression, predicate).
		Scan(&found.same, &found.taken, &found.unfinished, &divided, &megabytes)
	switch {
	case err != nil:
		return err
	case found.same != "":
		p.plan.There = append(p.plan.There, "the index "+schema.Quoted(found.same))
		return nil
	case found.taken && !found.unfinished:
		p.plan.Differs = append(p.plan.Differs, fmt.Sprintf("the index %s on %s cannot be built: something else has its name. Drop that, or give it another name,"+
			" as with alter index \"pgmq\".%s rename to other_name, and run ezq init again", name, table, name))
		return nil
	}
	partitioned = partitioned || divided
	statements := []string{indexSQL(index, table, !partitioned)}
	title := fmt.Sprintf("build the index %s on %s", name, table)
	if megabytes > 0 {
		title += fmt.Sprintf(", which has %d MB", megabytes)
	}
	if partitioned {
		title += ": as the table is partitioned, publishers and consumers wait meanwhile"
	}
	if found.taken {
		title += "; what has its name was not built to its end, and is dropped"
		statements = slices.Insert(statements, 0, "drop index if exists \"pgmq\"."+name)
	}
	p.add(title, func(ctx context.Context) error {
		for _, sql := range statements {
			if _, err := p.Pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%s: %w; drop what was built of it: drop index if exists \"pgmq\".%s", title, err, name)
			}
		}
		return nil
	})
	return nil
}

// foundIndex is what is there of an index.
type foundIndex struct {
	same       string // the name of one on the same, whatever it is, or ""
	taken      bool   // something has the name
	unfinished bool   // that is the index itself, whose build was interrupted
}

// indexThereSQL looks for an index on the table $2 that is as PostgreSQL writes $3, for the rows of $4 if that is not
// empty. It tells the name of one that is valid; whether anything has the name $1, and whether that is such an index
// which is not valid; whether the table has partitions; and its megabytes.
const indexThereSQL = `
with same as (
	select c.oid, relname, indisvalid from pg_index join pg_class c on c.oid = indexrelid join pg_am a on a.oid = relam
	where indrelid = pg_catalog.to_regclass($2::text)::oid and indnatts = 1 and amname in ('btree', 'hash')
		and pg_catalog.pg_get_expr(indexprs, indrelid) = $3::text and coalesce(pg_catalog.pg_get_expr(indpred, indrelid), '') = $4::text)
select coalesce((select relname::text from same where indisvalid order by oid <> coalesce(pg_catalog.to_regclass($1::text)::oid, 0), oid limit 1), ''),
	pg_catalog.to_regclass($1::text) is not null,
	exists (select from same where not indisvalid and oid = pg_catalog.to_regclass($1::text)::oid),
	coalesce((select relkind = 'p' from pg_class where oid = pg_catalog.to_regclass($2::text)::oid), false),
	coalesce(pg_catalog.pg_relation_size(pg_catalog.to_regclass($2::text)) >> 20, 0)`
