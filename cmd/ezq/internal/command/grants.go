package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/connection"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
	"github.com/ezq-go/ezq/internal/schema"
)

// grantsRequest is what a role is to be able to do.
type grantsRequest struct {
	role    string
	groups  []string
	topics  map[schema.Duty]*[]string // of the duties that are about topics
	own     bool
	breaker bool
	apply   bool
	offline bool
}

// topicDuty is a flag that names topics.
type topicDuty struct {
	duty schema.Duty
	help string
}

// topicDuties returns the flags that name topics, in the order of the documentation.
func topicDuties() []topicDuty {
	return []topicDuty{
		{schema.Publish, "topics that the role publishes to"},
		{schema.Send, "topics that the role publishes to with pgmq.send or pgmq.send_topic"},
		{schema.Schedule, "topics that the role publishes to for schedules"},
		{schema.Condition, "topics that the role publishes to with ezq.ID, Unique, Replace or Debounce"},
		{schema.Consume, "topics that the role handles events of"},
		{schema.Prune, "topics of which the role deletes old archived events and dead letters (ArchiveFor, DeadLettersFor)"},
		{schema.Operate, "topics that the role inspects and repairs"},
		{schema.Monitor, "topics whose length the role sees, and no event"},
		{schema.Support, "topics in which the role finds, cancels and moves single events"},
	}
}

func newGrants(s *session) *cobra.Command {
	r := &grantsRequest{topics: map[schema.Duty]*[]string{}}
	cmd := &cobra.Command{
		Use: "grants", Short: "Print or run the GRANT statements of a role", Args: none(),
		Long: `grants prints the GRANT statements that a role needs, and no more: docs/postgres.md explains them. A flag that
names a topic can be given several times. With --apply it runs them,
in one transaction, which takes the owner of the queues.

A publisher needs rights to all queues that are bound to its topics. With a database they are looked up there; without
one, or with --offline, they are the queue of each topic, or with --group, those of the groups.`,
		Example: "ezq grants --role shop --publish orders --consume orders --consume payments\nezq grants --role ada --operate orders --apply",
	}
	flags := cmd.Flags()
	flags.StringVar(&r.role, "role", "", "the role that gets the grants")
	for _, d := range topicDuties() {
		r.topics[d.duty] = flags.StringArray(string(d.duty), nil, d.help)
	}
	flags.StringArrayVar(&r.groups, "group", nil, "with --consume and --prune: the group that the role consumes as; with all others: groups whose queues count too")
	flags.BoolVar(&r.own, "own", false, "the role creates, drops and tunes queues, and binds groups")
	flags.BoolVar(&r.breaker, "break", false, "the role consumes with a middleware.CircuitBreaker")
	flags.BoolVar(&r.apply, "apply", false, "run the statements")
	flags.BoolVar(&r.offline, "offline", false, "do not look into the database")
	s.runs(cmd, func(ctx context.Context, _ []string) error { return r.run(ctx, s) })
	return cmd
}

func (r *grantsRequest) run(ctx context.Context, s *session) error {
	if err := r.check(); err != nil {
		return err
	}
	pool, err := r.database(ctx, s)
	if err != nil {
		return err
	}
	grants, err := r.grants(ctx, pool)
	if err != nil {
		return err
	}
	var sql strings.Builder
	for _, grant := range grants {
		sql.WriteString(grant.SQL(schema.Quoted(r.role)) + "\n")
	}
	s.printf("%s", sql.String())
	if !r.apply {
		return nil
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Conn().PgConn().Exec(ctx, "set local lock_timeout = '10s';\n"+sql.String()).ReadAll()
		return grantFailed(err)
	})
}

func (r *grantsRequest) check() error {
	asked := r.own || r.breaker
	for _, d := range topicDuties() {
		asked = asked || len(*r.topics[d.duty]) > 0
	}
	switch {
	case r.role == "":
		return wrong("grants: name the role with --role")
	case !asked:
		return wrong("grants: say what the role is for, as in --publish orders or --consume orders")
	case r.apply && r.offline:
		return wrong("grants: --apply is for a database, and --offline for none")
	}
	return nil
}

// database returns the database that the grants are for, or nil if none is to be looked into.
func (r *grantsRequest) database(ctx context.Context, s *session) (*pgxpool.Pool, error) {
	if r.offline {
		return nil, nil
	}
	if _, err := connection.URL(s.Lookup); errors.Is(err, connection.ErrNowhere) && !r.apply {
		return nil, nil
	}
	if _, err := s.client(ctx); err != nil {
		return nil, err
	}
	return s.pool(ctx)
}

// grants returns all that the role needs, each once, in the order of the documentation.
func (r *grantsRequest) grants(ctx context.Context, pool *pgxpool.Pool) (all []schema.Grant, err error) {
	add := func(grants []schema.Grant) {
		for _, grant := range grants {
			if !slices.Contains(all, grant) {
				all = append(all, grant)
			}
		}
	}
	if r.own {
		add(schema.Grants(schema.Own, schema.Topic{}))
	}
	for _, d := range topicDuties() {
		for _, topic := range *r.topics[d.duty] {
			about, err := r.topic(ctx, pool, topic, d.duty == schema.Consume || d.duty == schema.Prune)
			if err != nil {
				return nil, err
			}
			add(schema.Grants(d.duty, about))
		}
	}
	if r.breaker {
		add(schema.Grants(schema.Break, schema.Topic{}))
	}
	return all, nil
}

// topic returns the queues of a topic: those of its groups if a role consumes as these, else all of them.
func (r *grantsRequest) topic(ctx context.Context, pool *pgxpool.Pool, topic string, consumes bool) (t schema.Topic, err error) {
	own, err := pgmq.QueueName(topic)
	if err != nil {
		return t, err
	}
	if t.Dead, err = pgmq.QueueName(topic + backend.DeadLetterSuffix); err != nil {
		return t, err
	}
	t.Grouped = len(r.groups) > 0
	for _, group := range r.groups {
		queue, err := pgmq.GroupQueueName(topic, group)
		if err != nil {
			return t, err
		}
		t.Queues = append(t.Queues, queue)
	}
	switch {
	case pool != nil && !consumes:
		t.Queues, err = boundQueues(ctx, pool, topic, own, t.Queues)
	case len(t.Queues) == 0:
		t.Queues = []string{own}
	}
	return t, err
}

// boundQueues returns the queue of a topic, if it is there or nothing else is, and all that get what is published to it.
func boundQueues(ctx context.Context, pool *pgxpool.Pool, topic, own string, named []string) ([]string, error) {
	rows, err := pool.Query(ctx, boundSQL, pgx.QueryExecModeExec, own, topic, named)
	if err != nil {
		return nil, grantFailed(err)
	}
	queues, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, grantFailed(err)
	}
	if len(queues) == 0 {
		queues = []string{own}
	}
	return queues, nil
}

// boundSQL lists the queues that are there of these: a topic's own, those that are named, and those that are bound to it.
// A topic that is no routing key of PGMQ is bound under the name of its queue.
const boundSQL = `
select name from (
	select $1::text as name, 0 as n
	union select queue_name, 1 from pgmq.topic_bindings where $2::text ~ compiled_regex or $1::text ~ compiled_regex or pattern = $2::text
	union select named, 1 from pg_catalog.unnest($3::text[]) as named) as queues
where pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', 'q_' || pg_catalog.lower(name))) is not null
group by name order by min(n), name`

// grantFailed returns err with what to do.
func grantFailed(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	remedy := ""
	switch pg.Code {
	case "42501": // insufficient_privilege
		remedy = ": connect as the owner of the queues, or of the database; roles of PostgreSQL, as pg_read_all_stats, take a superuser"
	case "42P01": // undefined_table
		remedy = ": create it first, with ezq install or ezq init"
	case "42704": // undefined_object
		remedy = ": create the role first, as with CREATE ROLE … LOGIN"
	}
	return fmt.Errorf("%s; nothing was granted%s", terminal.SingleLine(pg.Error()), remedy)
}
