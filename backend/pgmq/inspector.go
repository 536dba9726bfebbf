package pgmq

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/search"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/schema"
)

//go:embed sql/bindings.sql
var bindingsSQL string

//go:embed sql/programs.sql
var programsSQL string

const (
	// maxBindings is how many bindings are listed.
	maxBindings = 10_000

	// measuredTogether is how many queues one statement looks at: about more, it takes long to plan.
	measuredTogether = 50

	// inspectTimeout bounds a statement that looks at queues.
	inspectTimeout = "lock_timeout = '500ms'; set local statement_timeout = '10s'"
)

// inspector has the methods of [backend.Inspector] of a [Client].
type inspector struct {
	stored *storedMessages
	pauses *topicPauses

	mu      sync.Mutex
	trusted map[string]struct{} // tables that run no code of untrusted roles
}

var (
	_ backend.Inspector     = (*Client)(nil)
	_ backend.ProgramLister = (*Client)(nil)
)

func newInspector(stored *storedMessages, pauses *topicPauses) *inspector {
	return &inspector{stored: stored, pauses: pauses, trusted: map[string]struct{}{}}
}

// QueueStates implements [backend.Inspector]. It counts through the index of vt, with one statement for each 50 queues, and without waiting for one that
// is locked as a whole. The role needs SELECT on pgmq.meta, and SELECT (vt) on the queues. Those that it
// may not read, that are locked, or that may run code of a role which this one has no reason to trust are missing, and an error names
// them, as it does those that have no row in pgmq.meta. The queue of the schedules has no Topic.
func (i *inspector) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	const op = "list the states of queues"
	err := i.stored.publisher.checkOpen()
	var queues []QueueInfo
	if err == nil {
		queues, err = listQueues(ctx, i.pool())
	}
	if err != nil {
		return nil, fault.Classify(op, "", err)
	}
	queues, failures := i.trustedQueues(ctx, queues)
	var states []backend.QueueState
	for some := range slices.Chunk(queues, measuredTogether) {
		more, failed := i.measure(ctx, some)
		states, failures = append(states, more...), append(failures, failed...)
	}
	if err := unlistedError(ctx, i.pool()); err != nil {
		failures = append(failures, fault.Classify("list queues", "", err))
	}
	slices.SortStableFunc(states, func(a, b backend.QueueState) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Queue, b.Queue))
	})
	return states, joined(op, failures)
}

// Bindings implements [backend.Inspector]. There are none where PGMQ has no topic bindings. The role needs SELECT on pgmq.topic_bindings.
func (i *inspector) Bindings(ctx context.Context) ([]backend.Binding, error) {
	const op = "list bindings"
	err := i.stored.publisher.checkOpen()
	var layout catalog.Layout
	if err == nil {
		layout, err = catalog.Probe(ctx, i.pool(), "ezq")
	}
	if err != nil || !layout.Groups {
		return nil, fault.Classify(op, "", err)
	}
	rows, err := transact.Collect(ctx, i.pool(), pgx.RowToStructByPos[bindingRow], strings.ReplaceAll(sqlfile.Text(bindingsSQL), "{label}", catalog.LabelSQL()), maxBindings+1)
	if err != nil {
		return nil, fault.Classify(op, "", err)
	}
	bound := bindingsOf(rows)
	if len(rows) > maxBindings {
		err = &backend.TruncatedError{
			Tables: []string{"pgmq.topic_bindings"}, Reason: fmt.Sprintf("only %d bindings were looked at", maxBindings), Remedy: "delete those that are no longer wanted",
		}
	}
	return bound, fault.Classify(op, "", err)
}

// Programs implements [backend.ProgramLister], of this database. A client of ezq calls itself "ezq", unless its URL has an application_name: give
// each program its own. To see where others connect from, and since when, the role needs pg_read_all_stats.
func (i *inspector) Programs(ctx context.Context) ([]backend.Program, error) {
	const op = "list programs"
	err := i.stored.publisher.checkOpen()
	var found []backend.Program
	if err == nil {
		found, err = transact.Collect(ctx, i.pool(), scanProgram, sqlfile.Text(programsSQL), backend.MaxPrograms+1)
	}
	if len(found) > backend.MaxPrograms {
		found = found[:backend.MaxPrograms]
		err = &backend.TruncatedError{
			Tables: []string{"pg_stat_activity"}, Reason: fmt.Sprintf("only %d programs are listed", backend.MaxPrograms), Remedy: "look into pg_stat_activity",
		}
	}
	return found, fault.Classify(op, "", err)
}

func scanProgram(row pgx.CollectableRow) (p backend.Program, err error) {
	var since *time.Time
	err = row.Scan(&p.Name, &p.Role, &p.Host, &p.Connections, &since)
	if since != nil {
		p.Since = *since
	}
	return p, err
}

// AllPauses returns the pauses of all topics that hold now, in the order of their names, as Pauses does.
func (i *inspector) AllPauses(ctx context.Context) ([]backend.Paused, error) {
	return i.pauses.listAll(ctx)
}

// Peek implements [backend.Inspector]. It goes through the index of vt, and looks at 10,000 rows at most. The role needs SELECT on the queue. A queue that
// may run code of a role which this one has no reason to trust is refused. When payloads and metadata take 16 MiB of memory, the messages behind have
// an Err that matches [ErrTooLarge], and a [backend.TruncatedError] says how many they are: peek again behind the last one before them.
func (i *inspector) Peek(ctx context.Context, topic string, p backend.Peek) ([]backend.Peeked, error) {
	const op = "peek"
	if err := i.stored.check(topic, p.Check()); err != nil {
		return nil, fault.Classify(op, topic, err)
	}
	queue, err := search.PeekedQueue(topic, p.Group)
	if err == nil {
		err = i.requireTrusted(ctx, queue)
	}
	if err != nil {
		return nil, fault.Classify(op, topic, err)
	}
	found, err := search.Peek(ctx, i.stored.search, topic, p)
	return found, fault.Classify(op, topic, err)
}

func (i *inspector) pool() *pgxpool.Pool { return i.stored.publisher.pool }

// requireTrusted returns an error if the table of a queue would run the code of an untrusted role, as far as known.
func (i *inspector) requireTrusted(ctx context.Context, queue string) error {
	table := queuename.Table(queue)
	if i.trusts(table) {
		return nil
	}
	err := catalog.RequireTrusted(ctx, i.pool(), []string{table}, catalog.VouchingTable(i.stored.publisher.create == nil, queue))
	if err == nil {
		i.trust(table)
	}
	return err
}

// trustedQueues returns those of queues of which the tables run no code of untrusted roles, and why the others are left out.
func (i *inspector) trustedQueues(ctx context.Context, queues []QueueInfo) (trusted []QueueInfo, failures []error) {
	if i.stored.publisher.create == nil { // the owners of queues are trusted
		return queues, nil
	}
	for some := range slices.Chunk(i.unknown(queues), 2*measuredTogether) {
		err := catalog.RefusedEach(ctx, i.pool(), some, func(table string, refused map[string]error) {
			if failures = slices.AppendSeq(failures, maps.Values(refused)); len(refused) == 0 {
				i.trust(table)
			}
		})
		if err != nil {
			failures = append(failures, err)
			break
		}
	}
	return slices.DeleteFunc(queues, func(q QueueInfo) bool { return !i.trusts(queuename.Table(q.Name)) }), failures
}

// unknown returns the tables of queues that are not known to be trusted.
func (i *inspector) unknown(queues []QueueInfo) (tables []string) {
	for _, q := range queues {
		if table := queuename.Table(q.Name); !i.trusts(table) {
			tables = append(tables, table)
		}
	}
	return tables
}

func (i *inspector) trusts(table string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.trusted[table]
	return ok
}

func (i *inspector) trust(table string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	bounded.Set(i.trusted, table, struct{}{})
}

// measure looks at queues, together, and if that fails, at half of them, and so on: one that is locked, or dropped meanwhile, hides no other.
func (i *inspector) measure(ctx context.Context, queues []QueueInfo) (states []backend.QueueState, failures []error) {
	states, err := i.measureTogether(ctx, queues)
	switch {
	case err == nil:
		return states, nil
	case ctx.Err() != nil:
		return nil, []error{&backend.TruncatedError{
			Tables: []string{queuename.Table(queues[0].Name)}, Reason: fmt.Sprintf("the time was up, and %d queues were not looked at", len(queues)), Remedy: "allow more time, or look again when the server is less busy",
		}}
	case len(queues) == 1 && fault.IsCode(err, "42P01"): // it was dropped meanwhile
		return nil, nil
	case len(queues) == 1:
		return nil, []error{fault.Classify("measure", queues[0].Name, err)}
	}
	for half := range slices.Chunk(queues, (len(queues)+1)/2) {
		more, failed := i.measure(ctx, half)
		states, failures = append(states, more...), append(failures, failed...)
	}
	return states, failures
}

func (i *inspector) measureTogether(ctx context.Context, queues []QueueInfo) ([]backend.QueueState, error) {
	parts := make([]string, len(queues))
	for n, q := range queues {
		parts[n] = fmt.Sprintf("(select %d::int, m.* from (%s) as m)", n, metricsStatement(q.Name))
	}
	states := make([]backend.QueueState, 0, len(queues))
	err := transact.Run(ctx, i.pool(), inspectTimeout, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, strings.Join(parts, "\nunion all\n"), pgx.QueryExecModeExec, countLimit+1)
		if err != nil {
			return err
		}
		var n int
		var m measurement
		_, err = pgx.ForEachRow(rows, append([]any{&n}, m.targets()...), func() error {
			states = append(states, stateOf(m.of(queues[n])))
			return nil
		})
		return err
	})
	return states, err
}

func stateOf(m QueueMetrics) backend.QueueState {
	if m.Queue == schema.Schedules { // no topic: what is there are no messages
		m.Topic = ""
	}
	return backend.QueueState{
		Queue: m.Queue, Topic: m.Topic, Group: m.Group, Waiting: m.Visible, WaitingCapped: m.VisibleCapped,
		Invisible: m.Invisible, InvisibleCapped: m.InvisibleCapped, Oldest: m.OldestVisible, NextDue: m.NextDue, Added: m.Inserted, Removed: m.Deleted,
	}
}

// joined returns failures as one error, in which each stands once, and no more than a few of them.
func joined(op string, failures []error) error {
	const most = 10
	var all []error
	known := map[string]bool{}
	for _, err := range failures {
		err = fault.Classify(op, "", err)
		if text := err.Error(); !known[text] {
			known[text] = true
			all = append(all, err)
		}
	}
	if len(all) > most {
		all = append(all[:most], fmt.Errorf("pgmq: and %d more", len(all)-most))
	}
	return errors.Join(all...)
}

// bindingRow is a row of bindings.sql.
type bindingRow struct {
	Pattern, Queue, Label string
	There                 bool
}

// bindingsOf returns what rows say. A group that takes a pattern is bound twice, and stands there once.
func bindingsOf(rows []bindingRow) []backend.Binding {
	var bound []backend.Binding
	for _, r := range rows {
		b := backend.Binding{Topic: r.Pattern, Queue: r.Queue, Missing: !r.There}
		topic, group := catalog.ReadLabel(r.Queue, r.Label)
		if own := queuename.RoutingKey; topic != "" && (r.Pattern == own(topic) || r.Pattern == topic) {
			b.Topic, b.Group = topic, group
		}
		bound = append(bound, b)
	}
	slices.SortFunc(bound, func(a, b backend.Binding) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Queue, b.Queue))
	})
	return slices.Compact(bound)
}
