package pgmq

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/internal/deadletters"
	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/redrive.sql
var redriveSQL string

// redrive is one call of Redrive.
type redrive struct {
	pool    *pgxpool.Pool
	routes  *catalog.Routes
	notify  func(queues []string) // wakes their consumers
	from    string
	look    *deadLetterLook
	origins *origins

	busy          int             // dead letters that are leased, delayed or locked
	strays        int             // messages that stay
	blocked       map[string]bool // the destinations that cannot be filled
	failed        error           // why not; the first
	kept          int             // dead letters that stay because of that
	first         int64           // of these
	to            destination     // where that one goes
	failuresInRow int             // dead letters for one place that failed alone since the last move
}

func newRedrive(publisher *Publisher, look *deadLetterLook, selected *origins) *redrive {
	look.texts = originTexts()
	return &redrive{
		pool: publisher.pool, routes: publisher.routes, notify: publisher.notify, from: look.queue, look: look, origins: selected, blocked: map[string]bool{},
	}
}

// run moves the dead letters of a topic that are chosen, and says which stay.
func (r *redrive) run(ctx context.Context, topic string) (backend.Redriven, error) {
	limit := r.look.chosen.Limit
	if limit == 0 {
		limit = math.MaxInt
	}
	moved, err := r.moveOldest(ctx, limit)
	return backend.Redriven{Moved: moved, Busy: r.busy}, cmp.Or(err, r.unmovedError(topic), r.look.leftOut(nil, 0))
}

// moveOldest goes through the dead letters once, up to the last that was there at the
// start: one that is moved may be a dead letter again at once.
func (r *redrive) moveOldest(ctx context.Context, limit int) (moved int, err error) {
	last, err := transact.Value[int64](ctx, r.pool, fmt.Sprintf(lastSQL, queuename.Table(r.from)))
	if err != nil {
		return 0, err
	}
	for after := r.look.after(); moved < limit; {
		found, err := r.look.next(ctx, after, last, min(max(limit-moved, lookMinBatch), lookBatch))
		if err != nil || len(found) == 0 {
			return moved, err
		}
		some, next, err := r.choose(ctx, found, limit-moved)
		if err != nil {
			return moved, err
		}
		after = next
		n, err := r.moveAll(ctx, some)
		if moved += n; err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// bundle is dead letters that go to one place.
type bundle struct {
	to  destination
	ids []int64
}

// choose returns up to limit of found that may be moved, those for one place together,
// and the last that it has looked at. It counts the others.
func (r *redrive) choose(ctx context.Context, found []seen, limit int) (chosen []bundle, last int64, err error) {
	at := map[string]int{}
	for _, one := range found {
		if limit == 0 {
			break
		}
		last = one.id
		if !one.isChosen() {
			continue
		}
		c := newCandidate(one)
		to, err := r.origins.destination(ctx, c)
		switch {
		case err != nil:
			return nil, 0, err
		case !one.due:
			if !to.stray() {
				r.busy++
			}
			continue
		case to.stray():
			r.strays++
			continue
		case r.blocked[to.key()]:
			r.keep(bundle{to, []int64{c.id}})
			continue
		}
		i, ok := at[to.key()]
		if !ok {
			i = len(chosen)
			at[to.key()], chosen = i, append(chosen, bundle{to: to})
		}
		chosen[i].ids = append(chosen[i].ids, c.id)
		limit--
	}
	return chosen, last, nil
}

// moveAll moves what can be moved, and remembers where nothing can go. It ends where it is unknown what was moved.
func (r *redrive) moveAll(ctx context.Context, all []bundle) (moved int, lost error) {
	for _, b := range all {
		r.failuresInRow = 0
		n, err := r.moveSome(ctx, b)
		moved += n
		switch {
		case fault.IsLost(err):
			return moved, err
		case err != nil:
			r.failed = cmp.Or(r.failed, err)
			r.blocked[b.to.key()] = !fault.IsServerError(err) || r.hasTooManyFailures(err)
		}
	}
	return moved, nil
}

// maxFailuresInRow is how many dead letters fail by themselves, one after the other, for what may be
// the fault of none of them, before it is.
const maxFailuresInRow = 10

// moveSome moves dead letters that go to one place. If PostgreSQL refuses what is in one
// of them, that one stays: the others are found by halves.
func (r *redrive) moveSome(ctx context.Context, b bundle) (moved int, err error) {
	moved, err = r.move(ctx, b)
	half := len(b.ids) / 2
	switch {
	case err == nil:
		r.failuresInRow = 0
		return moved, nil
	case fault.IsLost(err):
		return 0, err
	case half == 0 && fault.MayBeRetried(err):
		r.failuresInRow++
	}
	if half == 0 || !fault.IsServerError(err) || r.hasTooManyFailures(err) {
		r.keep(b)
		return 0, err
	}
	first, err := r.moveSome(ctx, bundle{b.to, b.ids[:half]})
	if fault.IsLost(err) {
		return first, err
	}
	second, failed := r.moveSome(ctx, bundle{b.to, b.ids[half:]})
	if fault.IsLost(failed) {
		err = failed
	}
	return first + second, cmp.Or(err, failed)
}

// keep counts dead letters that stay.
func (r *redrive) keep(b bundle) {
	if r.kept == 0 {
		r.first, r.to = b.ids[0], b.to
	}
	r.kept += len(b.ids)
}

// keepUndeleted is for dead letters that PostgreSQL was told to delete, and did not.
func (r *redrive) keepUndeleted(b bundle) {
	if len(b.ids) > 0 {
		r.failed = cmp.Or(r.failed, keptError(len(b.ids), queuename.Table(r.from)))
		r.keep(b)
	}
}

func (r *redrive) hasTooManyFailures(err error) bool {
	return r.failuresInRow >= maxFailuresInRow && fault.MayBeRetried(err)
}

// move moves dead letters to where they came from, all in one statement. If that
// was dropped while this client knew of it, it looks again.
func (r *redrive) move(ctx context.Context, b bundle) (moved int, err error) {
	for again := true; ; again = false {
		to, err := r.route(ctx, b.to)
		if err != nil {
			return 0, err
		}
		var undeleted []int64
		var busy int
		err = transact.Run(ctx, r.pool, "", func(tx pgx.Tx) error {
			sql, err := newRedriveSQL(ctx, tx, r.look, to)
			if err != nil {
				return err
			}
			return tx.QueryRow(ctx, sql, r.look.arguments(b.ids, deadLetterKeys(), r.from)...).Scan(&moved, &undeleted, &busy)
		})
		err = fault.Changed(err, moved)
		switch {
		case err == nil:
			if moved > 0 {
				r.notify(to.Queues)
			}
			r.busy += busy
			r.keepUndeleted(bundle{b.to, undeleted})
			return moved, nil
		case again && fault.IsCode(err, "42P01"):
			r.routes.Forget(b.to.topic, to)
			for _, queue := range to.Queues {
				r.routes.Catalog.Forget(queue)
			}
		default:
			return 0, r.denied(ctx, err, to)
		}
	}
}

// route returns the queues that get the dead letters for a destination. They have to be
// there: a dead letter makes no queue.
func (r *redrive) route(ctx context.Context, to destination) (found *catalog.Route, err error) {
	if to.queue == "" {
		found, err = r.routes.LookUp(ctx, r.pool, to.topic, nil)
	} else {
		found = &catalog.Route{Queues: []string{to.queue}}
		err = r.routes.Catalog.Ensure(ctx, r.pool, to.queue, nil)
	}
	if missing := (*Error)(nil); errors.As(err, &missing) && errors.Is(missing.Kind, ErrQueueNotFound) {
		create := "create its queue with Client.CreateQueue or pgmq.create"
		if own, _ := queuename.Of(to.topic); to.queue != "" && to.queue != own {
			create = "let a program subscribe to it with the group of that queue"
		}
		return nil, &Error{
			Kind: ErrQueueNotFound, Cause: missing.Cause, Remedy: "if the topic is still in use, " + create + ", and redrive again",
		}
	}
	return found, err
}

// deadLetterKeys is the headers that a dead letter has got as such, and those that begin anew.
func deadLetterKeys() []string {
	return append(append(deadletters.Keys(), codec.OriginKey, codec.GroupKey), codec.ResetKeys()...)
}

func (r *redrive) denied(ctx context.Context, err error, to *catalog.Route) error {
	if !fault.IsCode(err, "42501") {
		return err
	}
	grants := []string{fmt.Sprintf("GRANT SELECT, UPDATE, DELETE ON %s TO the role", queuename.Table(r.from))}
	for _, queue := range to.Queues {
		columns, _, _ := catalog.LeasedMarkColumns(ctx, r.pool, queue) // or those of all queues
		grants = append(grants, fmt.Sprintf("GRANT INSERT (vt, message, headers%s) ON %s TO the role", columns, queuename.Table(queue)))
	}
	return &Error{Kind: ErrPermission, Cause: fault.WithoutSecrets(err), Remedy: "let their owner run " + strings.Join(grants, "; ")}
}

// unmovedError returns an error if there are messages that could not be moved.
func (r *redrive) unmovedError(from string) error {
	if r.failed != nil {
		return r.refused(from)
	}
	if r.strays == 0 {
		return nil
	}
	return &Error{
		Kind: ErrStrays,
		Cause: fmt.Errorf("%d messages stay: they are not dead letters of %s, or name a queue that is not its own or its groups'",
			r.strays, r.origins.topicNames()),
		Remedy: "Origins shows what they say; name the topics whose dead letters are to be moved",
	}
}

// refused is why dead letters could not be moved, and which.
func (r *redrive) refused(from string) error {
	place := fmt.Sprintf("the queues of %q", r.to.topic)
	if r.to.queue != "" {
		place = queuename.Table(r.to.queue)
	}
	e, _ := errors.AsType[*Error](fault.Classify("redrive", from, r.failed)) // a copy
	e.Cause = fmt.Errorf("%w; dead letters that stay: %d; the first is the row %d and goes to %s", e.Cause, r.kept, r.first, place)
	return e
}

// newRedriveSQL returns the statement that moves dead letters between tables.
func newRedriveSQL(ctx context.Context, db transact.RowQueryer, look *deadLetterLook, to *catalog.Route) (string, error) {
	var moves strings.Builder
	var inserts []string
	for i, queue := range to.Queues {
		columns, values, err := catalog.LeasedMarkColumns(ctx, db, queue)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&moves, `,
i%d as (
	insert into %s (vt, message, headers%s)
	select clock_timestamp(), message, headers%s%s from d order by msg_id returning 1)`, i, queuename.Table(queue), columns, to.AddedHeaders(queue), values)
		inserts = append(inserts, fmt.Sprintf("i%d", i))
	}
	return strings.NewReplacer("{table}", queuename.Table(look.queue), "{matches}", look.matches(), "{moves}", moves.String(), "{all stored}", catalog.AllStored("d", inserts...)).Replace(sqlfile.Text(redriveSQL)), nil
}
