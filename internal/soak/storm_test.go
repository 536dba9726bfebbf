package soak_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// storm is what others do to the database who know nothing of ezq: foreign DDL and administration,
// one act after the other, each kind once, in random order, and so on.
type storm struct {
	*soak
	rng    *rand.Rand
	kinds  []act
	left   []act
	counts map[string]*tally
	faulty atomic.Bool // there are faults besides
	act    atomic.Pointer[string]

	bursts int // so far
}

// tally is what became of the acts of a kind.
type tally struct {
	Done        int `json:"done"`
	Busy        int `json:"busy,omitempty"`        // attempts that got no lock
	Interrupted int `json:"interrupted,omitempty"` // by a fault
}

// act is one thing that others do. Then it is undone, until that succeeds.
type act struct {
	name string
	do   func(*session) error
	undo func(*session) error // nil: there is nothing to undo
}

// session is the session of an act.
type session struct {
	*storm
	ctx   context.Context
	conn  *pgx.Conn
	topic string   // one that loses nothing by anything
	ends  []func() // what is called when the act is undone
}

// strict are the topics that lose nothing by anything; loose are those whose queues are dropped.
func strict() []string { return []string{plain, inTx, shaken} }
func loose() []string  { return []string{dropped, outbox} }

func newStorm(s *soak) *storm {
	w := &storm{soak: s, rng: rand.New(rand.NewPCG(*seed, 1)), counts: map[string]*tally{}}
	possible, partman := acts(), false
	require.NoError(s, s.pool.QueryRow(s.Context(), "select exists (select from pg_extension where extname = 'pg_partman')").Scan(&partman))
	if partman {
		possible = append(possible, actsWithPartman()...)
	}
	for _, a := range possible {
		if only.MatchString(a.name) {
			w.kinds = append(w.kinds, a)
			w.counts[a.name] = &tally{}
		}
	}
	return w
}

// runInBackground goes on while there are faults, until it is told to end.
func (w *storm) runInBackground() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	w.faulty.Store(true)
	running.Go(func() {
		for ctx.Err() == nil && len(w.kinds) > 0 {
			w.perform(w.next())
			pause(time.Duration(100+w.rng.IntN(300)) * time.Millisecond)
		}
	})
	return func() {
		cancel()
		running.Wait()
		w.faulty.Store(false)
	}
}

// runAlone goes on for at least so long, and until each kind was there. Messages flow again after each
// act. It returns the acts, with the time that took.
func (w *storm) runAlone(d time.Duration) (happened []incident) {
	w.Helper()
	start := time.Now()
	w.left = nil
	for n := 0; n < len(w.kinds) || time.Since(start) < d && n > 0; n++ {
		a, begun := w.next(), time.Now()
		w.perform(a)
		done := time.Now()
		recovery, late := w.awaitFlow(done, slices.Collect(maps.Keys(w.ledgers))...)
		happened = append(happened, incident{
			What: a.name, At: seconds(begun.Sub(start)), Lasted: seconds(done.Sub(begun)),
			Recovery: seconds(recovery), Late: seconds(late), recovery: recovery, late: late,
		})
		pause(time.Duration(w.rng.IntN(200)) * time.Millisecond)
	}
	return happened
}

func (w *storm) next() act {
	if len(w.left) == 0 {
		w.left = append(w.left, w.kinds...)
		w.rng.Shuffle(len(w.left), func(i, j int) { w.left[i], w.left[j] = w.left[j], w.left[i] })
	}
	next := w.left[0]
	w.left = w.left[1:]
	return next
}

// currentAct returns the name of the act that is, or "".
func (w *storm) currentAct() string {
	if name := w.act.Load(); name != nil {
		return *name
	}
	return ""
}

// perform does and undoes an act. One that gets no lock is tried again, and one that a fault
// interrupts comes back later.
func (w *storm) perform(a act) {
	topic, count := strict()[w.rng.IntN(len(strict()))], w.counts[a.name]
	w.act.Store(&a.name)
	defer w.act.Store(nil)
	for range 30 {
		h := &session{storm: w, topic: topic}
		err := h.with(a.do)
		h.clear(a)
		switch {
		case err == nil:
			count.Done++
			return
		case isCode(err, "55P03"): // lock_not_available
			count.Busy++
			pause(200 * time.Millisecond)
			continue
		case w.faulty.Load() && isInterruption(err):
			count.Interrupted++
			w.left = append(w.left, a)
		default:
			w.Errorf("%s, on %q: %v", a.name, topic, err)
		}
		return
	}
	w.Errorf("%s, on %q: it gets no lock", a.name, topic)
}

// with runs f in a session of its own. It waits for locks no longer than a careful administrator
// does, because all sessions that come after it wait, too.
func (h *session) with(f func(*session) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, h.server.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	h.ctx, h.conn = ctx, conn
	if err := h.exec("set lock_timeout = '1s'"); err != nil {
		return err
	}
	return f(h)
}

// clear undoes what an act has done or begun.
func (h *session) clear(a act) {
	for deadline := time.Now().Add(patience); a.undo != nil; pause(100 * time.Millisecond) {
		err := h.with(a.undo)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			h.Errorf("%s: it cannot be undone: %v", a.name, err)
			break
		}
	}
	for _, end := range h.ends {
		end()
	}
}

// atEnd makes something end when the act is undone.
func (h *session) atEnd(end func()) { h.ends = append(h.ends, end) }

// exec runs one statement after the other. In them, {queue} stands for the table of the topic.
func (h *session) exec(statements ...string) error {
	for _, statement := range statements {
		if _, err := h.conn.PgConn().Exec(h.ctx, h.fill(statement)).ReadAll(); err != nil {
			return fmt.Errorf("%.100s: %w", statement, err)
		}
	}
	return nil
}

// ids runs a query for the ids of events.
func (h *session) ids(query string) (map[string]bool, error) {
	rows, err := h.conn.Query(h.ctx, query)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	set := map[string]bool{}
	for _, id := range ids {
		set[id] = true
	}
	return set, err
}

// inTx runs f in a transaction, which is committed if f succeeds.
func (h *session) inTx(f func() error) error {
	return pgx.BeginFunc(h.ctx, h.conn, func(pgx.Tx) error { return f() })
}

func isCode(err error, code string) bool {
	failed, ok := errors.AsType[*pgconn.PgError](err)
	return ok && failed.Code == code
}

// isInterruption reports whether a fault can be the reason of err: a lost connection, a server that
// goes or comes, a statement that was cancelled.
func isInterruption(err error) bool {
	failed, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || failed.Code[:2] == "57" || failed.Code[:2] == "08" || failed.Code[:2] == "53"
}
