package soak_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/ledger"
)

// acts returns what the storm does.
func acts() []act {
	return slices.Concat(actsOnQueues(), actsOnTables(), actsOnRows(), actsOnDeadLetters())
}

// statements returns an act that is these statements.
func statements(do ...string) func(*session) error {
	return func(h *session) error { return h.exec(do...) }
}

// again returns an act that is these statements, on each of the queues that lose nothing, again and
// again: what takes no time gets in the way of others only now and then.
func again(do ...string) func(*session) error {
	return func(h *session) error {
		for range 5 {
			for _, h.topic = range strict() {
				if err := h.exec(do...); err != nil {
					return err
				}
			}
			pause(10 * time.Millisecond)
		}
		return nil
	}
}

// removing returns an act that removes what is in the queue of a topic.
func removing(topic string, do func(*session) error) func(*session) error {
	return func(h *session) error {
		defer h.ledger(topic).Removing()()
		return do(h)
	}
}

// dropping returns an act that drops queues, and does something else in the same transaction.
func dropping(then ...string) func(*session) error {
	return func(h *session) error {
		for _, h.topic = range loose() {
			err := removing(h.topic, statements(slices.Concat([]string{"begin", "select pgmq.drop_queue('{topic}')"}, then, []string{"commit"})...))(h)
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// burst publishes 300 events at once. The last part of their ids are the multiples of a number.
func (h *session) burst(topic string, of int, wait time.Duration) error {
	h.bursts++
	var events []happened
	account, due := h.ledger(topic), time.Now().Add(wait)
	for i := range 300 {
		id := fmt.Sprintf("burst-%d-%d", h.bursts, of*i)
		account.Published(id, ledger.Unknown)
		account.Delayed(id, due)
		events = append(events, happened{ID: id})
	}
	err := ezq.PublishBatch(h.ctx, h.client, events, ezq.Topic(topic), ezq.Delay(wait))
	for _, e := range events {
		account.Published(e.ID, h.outcome(err))
	}
	return h.ofClient(err)
}

func actsOnQueues() []act {
	unbind := statements("select pgmq.unbind_topic(pattern, queue_name) from pgmq.topic_bindings where queue_name = 'audit'",
		"select pgmq.drop_queue('audit')")
	return []act{
		{name: "queue dropped", do: dropping()},
		{name: "queue dropped, and created at once", do: dropping("select pgmq.create('{topic}')")},
		{name: "queue dropped, and created unlogged", do: dropping("select pgmq.create_unlogged('{topic}')")},
		{name: "queue purged", do: removing(purged, func(h *session) error {
			if err := h.burst(purged, 1, 0); err != nil {
				return err
			}
			for range 10 {
				if _, err := h.client.PurgeQueue(h.ctx, purged); err != nil {
					return h.ofClient(err)
				}
				pause(20 * time.Millisecond)
			}
			return nil
		})},
		{name: "queue truncated", do: removing(purged, statements("select pgmq.purge_queue('"+purged+"')"))},
		{name: "copies of everything bound", do: copied("#"), undo: unbind},
		{name: "copies of a topic bound", do: copied(shaken), undo: unbind},
		{name: "PGMQ updated", do: updated},
	}
}

// actsWithPartman are those that need the extension pg_partman.
func actsWithPartman() []act {
	return []act{{name: "queue dropped, and created partitioned", do: dropping("select pgmq.create_partitioned('{topic}', '10000', '100000')")}}
}

// copied binds a queue of others to a pattern, for a while. Copies arrive there if messages flow.
func copied(pattern string) func(*session) error {
	return func(h *session) error {
		if err := h.exec("select pgmq.create('audit')", "select pgmq.bind_topic('"+pattern+"', 'audit')"); err != nil {
			return err
		}
		pause(time.Second)
		for deadline := time.Now().Add(20 * time.Second); ; pause(50 * time.Millisecond) { // publishers may be at the end of a fault
			copies, err := h.ids("select distinct message->>'ID' from pgmq.q_audit")
			switch {
			case err != nil || len(copies) > 0 || h.faulty.Load():
				return err
			case time.Now().After(deadline):
				return fmt.Errorf("no message was copied to a queue that is bound to %q", pattern)
			}
		}
	}
}

var (
	definition = regexp.MustCompile(`(?m)^CREATE FUNCTION`)
	typeOf     = regexp.MustCompile(`(?ms)^CREATE TYPE.*?^\);`)
)

// updated does what an update of PGMQ does, in a transaction: all functions are replaced, and queues
// from before 1.10, as that of failing is, get the column last_read_at.
func updated(h *session) error {
	text, err := os.ReadFile(os.Getenv("EZQ_PGMQ_SQL"))
	if err != nil {
		return err
	}
	script := definition.ReplaceAllString(typeOf.ReplaceAllString(string(text), ""), "CREATE OR REPLACE FUNCTION")
	return h.exec("set client_min_messages = error", script+`;
		alter table pgmq.q_`+failing+` add column if not exists last_read_at timestamptz;
		alter table pgmq.a_`+failing+` add column if not exists last_read_at timestamptz`)
}

func actsOnTables() []act {
	const noInvalid = `do $$ declare i regclass; begin
		for i in select indexrelid from pg_index where not indisvalid and indrelid = '{queue}'::regclass loop
			execute 'drop index ' || i;
		end loop; end $$`
	return []act{
		{name: "REINDEX", do: again("reindex table {queue}")},
		{name: "REINDEX CONCURRENTLY", do: statements("reindex table concurrently {queue}"), undo: statements(noInvalid)},
		{name: "CREATE INDEX", do: again("create index storm on {queue} (enqueued_at)", "drop index pgmq.storm"), undo: statements("drop index if exists pgmq.storm")},
		{name: "CREATE INDEX CONCURRENTLY", do: statements("create index concurrently storm on {queue} (enqueued_at)"), undo: statements("drop index if exists pgmq.storm")},
		{name: "FIFO index of PGMQ", do: statements("select pgmq.create_fifo_index('{topic}')"), undo: statements("drop index if exists {queue}_fifo_idx")},
		{
			name: "CREATE TRIGGER",
			do: func(h *session) error {
				defer pause(200 * time.Millisecond)
				return h.exec("create or replace function storm_nothing() returns trigger language plpgsql as 'begin return new; end'",
					"create trigger storm before insert or update on {queue} for each row execute function storm_nothing()")
			},
			undo: statements("drop trigger if exists storm on {queue}"),
		},
		{
			name: "notifications of PGMQ",
			do: func(h *session) error {
				defer pause(300 * time.Millisecond)
				return h.exec("select pgmq.enable_notify_insert('{topic}', 0)")
			},
			undo: statements("select pgmq.disable_notify_insert('{topic}')"),
		},
		{name: "VACUUM", do: again("vacuum (analyze) {queue}")},
		{name: "VACUUM FULL", do: again("vacuum full {queue}")},
		{name: "ANALYZE while all is delayed", do: analyzed},
		{name: "privileges revoked", do: revoked, undo: statements("grant all on pgmq.q_" + shaken + " to " + role)},
		{name: "table locked beyond the lease", do: tableLocked},
	}
}

// analyzed makes the planner believe that nothing in the queue is ever due.
func analyzed(h *session) error {
	if err := h.burst(shaken, 1, 2*delay); err != nil {
		return err
	}
	return h.exec("analyze pgmq.q_" + shaken)
}

// revoked takes from the role what it may do with a queue, for a moment. What was handled is acked
// when that is over, after a pause of 1.2 s at most: if it takes longer than meant, the lease may
// have run out by then.
func revoked(h *session) error {
	begun := time.Now()
	h.atEnd(func() {
		if now := time.Now(); now.Sub(begun) > lease/3 {
			h.ledger(shaken).Happened("privileges revoked for a third of the lease", begun, now)
		}
	})
	defer pause(700 * time.Millisecond)
	return h.exec("revoke all on pgmq.q_" + shaken + " from " + role)
}

// tableLocked does what an index does that takes long to build, or an ALTER TABLE behind a query
// that does. Leases run out meanwhile, because nothing can extend them.
func tableLocked(h *session) error {
	return h.inTx(func() error {
		if err := h.exec("lock table pgmq.q_" + shaken + " in share mode"); err != nil {
			return err
		}
		h.atEnd(h.ledger(shaken).Begin("table locked beyond the lease", ""))
		pause(lease + time.Second/2)
		halfway := time.Now()
		pause(lease)
		for topic := range h.ledgers {
			if topic != shaken && !h.ledger(topic).DeliveredSince(halfway) && !h.faulty.Load() {
				return fmt.Errorf("for %v no event of %s was handled either", lease, topic)
			}
		}
		return nil
	})
}

func actsOnRows() []act {
	return []act{
		{name: "messages popped", do: func(h *session) error {
			return h.inTx(func() error {
				ids, err := h.ids("select message->>'ID' from pgmq.pop('" + purged + "', 5)")
				for id := range ids {
					h.ledger(purged).Removed(id)
				}
				return err
			})
		}},
		{name: "messages read by others", do: func(h *session) error {
			return h.inTx(func() error {
				_, err := h.ids("select message->>'ID' from pgmq.read('" + shaken + "', 2, 5)")
				pause(500 * time.Millisecond)
				return err
			})
		}},
		{name: "times of messages set by others", do: func(h *session) error {
			return h.inTx(func() error {
				ids, err := h.ids("select message->>'ID' from pgmq.set_vt('" + shaken + `', array(
					select msg_id from pgmq.q_` + shaken + ` where read_ct > 0 and vt > clock_timestamp() limit 5 for update skip locked), 0)`)
				h.concerns(ids, "its time was set")
				return err
			})
		}},
		{name: "rows locked for a second", do: rowsLocked(time.Second, "")},
		{name: "rows locked beyond the lease", do: rowsLocked(lease+lease/2, "its row was locked beyond the lease")},
	}
}

// concerns notes that something happens to some messages of shaken. They may be on their way to
// their handlers when it does.
func (h *session) concerns(ids map[string]bool, what string) {
	end := h.ledger(shaken).BeginFor(what, func(id string) bool { return ids[id] })
	h.atEnd(func() { time.AfterFunc(lease, end) })
}

// rowsLocked does what a session does that looks at messages, and stays idle in its transaction.
func rowsLocked(d time.Duration, cause string) func(*session) error {
	return func(h *session) error {
		return h.inTx(func() error {
			ids, err := h.ids("select message->>'ID' from pgmq.q_" + shaken + " order by read_ct desc, vt limit 20 for update skip locked")
			if err == nil && cause != "" {
				h.concerns(ids, cause)
			}
			pause(d)
			return err
		})
	}
}

// refused makes the queue of the dead letters refuse them, for a while. Events that do not fail are
// handled meanwhile.
func refused(statements ...string) func(*session) error {
	return func(h *session) error {
		h.atEnd(h.ledger(failing).BeginFor("its dead letter was refused", isDeadLetter))
		if err := h.exec(statements...); err != nil {
			return err
		}
		pause(time.Second)
		halfway := time.Now()
		pause(time.Second)
		if !h.ledger(failing).DeliveredSince(halfway) && !h.faulty.Load() {
			return errors.New("no event was handled while dead letters were refused")
		}
		return nil
	}
}

func actsOnDeadLetters() []act {
	const table = "pgmq.q_" + deadLetters
	return []act{
		{
			name: "dead letters refused by a trigger",
			do: refused("create or replace function storm_refuse() returns trigger language plpgsql as $$begin raise exception 'no letters today'; end$$",
				"create trigger storm before insert on "+table+" for each row execute function storm_refuse()"),
			undo: statements("drop trigger if exists storm on " + table),
		},
		{
			name: "dead letters refused by a CHECK",
			do:   refused("alter table " + table + " add constraint storm check (false) not valid"),
			undo: statements("alter table " + table + " drop constraint if exists storm"),
		},
		{name: "many dead letters at once", do: func(h *session) error { return h.burst(failing, fails, 0) }},
		{name: "dead letters redriven", do: func(h *session) error {
			h.atEnd(h.ledger(failing).BeginFor("redriven", isDeadLetter))
			_, err := h.client.Redrive(h.ctx, deadLetters, backend.DeadLetterSelection{Limit: 1000})
			return h.ofClient(err)
		}},
	}
}

// isDeadLetter reports whether an event becomes a dead letter.
func isDeadLetter(id string) bool { return oneIn(fails, id) }

// ofClient returns an error of ezq, of which a fault can be the reason.
func (h *session) ofClient(err error) error {
	if err != nil && h.faulty.Load() {
		return fmt.Errorf("interrupted: %s", err.Error())
	}
	return err
}

// fill puts the topic into a statement.
func (h *session) fill(statement string) string {
	return strings.NewReplacer("{queue}", "pgmq.q_"+h.topic, "{topic}", h.topic).Replace(statement)
}
